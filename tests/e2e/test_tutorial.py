"""The tutorial, as it stands in README.md and as people type it; and what it promises at its end."""

import json
import pathlib
import re
import subprocess
import sys
import textwrap
from decimal import Decimal

import openai
import pages
import pytest
from stack import wait_until

README = pathlib.Path(__file__).parents[2] / "README.md"
TAGS = ["project:payments-refactor", "team:backend", "agent:claude-code"]
SONNET = "claude-sonnet-4-20250514"
# What a reader puts in place of these is what the answer before said.
TEAM, KEY = "TEAM_ID", "sk-generated-key"

COMMANDS = [
    """curl -X POST 'http://localhost:4000/team/new' -H 'Authorization: Bearer sk-master' \\
  -d '{"team_alias": "engineering", "max_budget": 5000, "budget_duration": "1mo"}'""",
    """curl -X POST 'http://localhost:4000/key/generate' -H 'Authorization: Bearer sk-master' \\
  -d '{"team_id": "TEAM_ID", "key_alias": "dev-key", "max_budget": 100, "budget_duration": "1mo"}'""",
    "export ANTHROPIC_BASE_URL=http://localhost:4000",
    "export ANTHROPIC_API_KEY=sk-generated-key",
]


def blocks(language: str) -> list[str]:
    """The fenced blocks of the tutorial's section."""
    return pages.blocks(pages.section(README, "Tutorial"), language)


def commands(block: str) -> list[str]:
    """The commands of a block: a backslash at its end continues a line."""
    return [command for command in re.split(r"(?<!\\)\n", block.strip()) if command.strip()]


class Shell:
    """Runs commands one after another, as a reader would, and remembers what they answered."""

    def __init__(self, stack):
        self.stack = stack
        self.exports: list[str] = []
        self.found: dict[str, str] = {}
        self.answers: list[dict | list] = []

    def run(self, command: str) -> None:
        command = command.replace("localhost:4000", f"localhost:{self.stack.port}")
        for placeholder, value in self.found.items():
            command = command.replace(placeholder, value)
        assert TEAM not in command and KEY not in command, f"nothing before this told what to put in: {command}"
        if command.startswith("export "):
            self.exports.append(command)
            return
        done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        answer = json.loads(done.stdout, parse_float=Decimal)
        assert "error" not in answer, f"{command}\n{done.stdout}"
        self.answers.append(answer)
        if isinstance(answer, dict) and str(answer.get("key", "")).startswith("sk-tg-"):
            self.found.setdefault(KEY, answer["key"])
        elif isinstance(answer, dict) and "team_id" in answer:
            self.found.setdefault(TEAM, answer["team_id"])

    def python(self, code: str) -> str:
        """Runs a program in the environment that the exports made."""
        script = "\n".join([*self.exports, 'exec "$0" -c "$1"'])
        done = subprocess.run(["bash", "-ec", script, sys.executable, code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def fresh(make_stack, mock):
    """What `make run` starts in a fresh clone: nobody has set an admin key."""
    return make_stack(mock, env={"TOLLGATE_MASTER_KEY": ""})


def master(stack, method, path, **parameters):
    response = stack.http.request(method, path, headers={"authorization": "Bearer sk-master"}, params=parameters)
    assert response.status_code == 200, response.text
    return response.json(parse_float=Decimal)


ASK_CLAUDE = """
import anthropic
message = anthropic.Anthropic().messages.create(
    model="claude-sonnet-4-20250514", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
)
print(message.content[0].text)
"""


# The developer's client, where a block only shows a call of it.
CLIENT = """
import os, openai
client = openai.OpenAI(base_url=os.environ["ANTHROPIC_BASE_URL"] + "/v1", api_key=os.environ["ANTHROPIC_API_KEY"])
"""


def test_the_four_commands_work_as_people_paste_them(fresh, mock):
    shell = Shell(fresh)
    for command in COMMANDS:
        shell.run(command)
    team, key = shell.answers
    assert (team["team_alias"], team["max_budget"], team["budget_duration"]) == ("engineering", 5000, "1mo")
    assert (key["key_alias"], key["max_budget"], key["team_id"]) == ("dev-key", 100, team["team_id"])
    # The SDK finds base URL and key in the environment, and so does Claude Code.
    assert shell.python(ASK_CLAUDE).strip()
    assert mock.count() == 1
    spent = 3 * Decimal("0.000003") + 20 * Decimal("0.000015")
    assert fresh_info(fresh, key["key"])["spend"] == spent
    info = master(fresh, "GET", "/team/info", team_id=team["team_id"])["team_info"]
    assert (info["spend"], info["max_budget"], info["pending"]) == (spent, 5000, 0)


def fresh_info(stack, key):
    def settled():
        info = master(stack, "GET", "/key/info", key=key)["info"]
        return info["pending"] == 0 and info["spend"] > 0 and info

    return wait_until(settled, "the request is settled", 30)


def test_readme_says_what_works(fresh, mock):
    """Every block of the tutorial, run as it stands."""
    shell = Shell(fresh)
    pasted = [command for block in blocks("sh") for command in commands(block)]
    for command in pasted:
        if not re.match(r"make run\b", command):
            shell.run(command)
    assert [command for command in COMMANDS if command not in pasted] == []
    assert KEY in shell.found and len(shell.exports) == 2
    assert shell.python(ASK_CLAUDE).strip()
    for code in blocks("python"):
        shell.python(("" if "OpenAI(" in code else CLIENT) + textwrap.dedent(code))
    fresh_info(fresh, shell.found[KEY])
    shown = {row["individual_request_tag"] for row in master(fresh, "GET", "/spend/tags")}
    assert shown == set(TAGS)


def test_a_list_of_models_is_enforced_and_so_are_rates(stack, mock):
    body = {"models": [SONNET, "gpt-4.1-mini"], "tpm_limit": 1000000, "rpm_limit": 100}
    made = stack.admin("POST", "/key/generate", body)
    assert made["models"] == body["models"]
    assert (made["tpm_limit"], made["rpm_limit"]) == (1000000, 100)
    assert "warnings" not in made
    info = stack.key_info(made["key"])
    assert (info["tpm_limit"], info["rpm_limit"]) == (1000000, 100)
    first = stack.messages(made["key"])
    assert first.status_code == 200
    assert first.headers["anthropic-ratelimit-requests-limit"] == "100"
    assert stack.messages(made["key"], {"model": "claude-sonnet-4"}).status_code == 200
    assert stack.chat(made["key"]).status_code == 200
    mock.reset()
    assert stack.messages(made["key"], {"model": "claude-opus-4-20250514"}).status_code == 403
    assert stack.chat(made["key"], {"model": "gpt-4.1"}).status_code == 403
    assert mock.count() == 0


def test_tags_attribute_the_cost_and_the_provider_never_sees_them(make_stack, mock):
    stack = make_stack(mock)
    key = stack.key()
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key) as client:
        client.chat.completions.create(
            model="claude-sonnet-4",
            messages=[{"role": "user", "content": "Hello"}],
            extra_body={"metadata": {"tags": TAGS}},
        )
    spend = stack.settled(key)["spend"]
    assert spend == 3 * Decimal("0.000003") + 20 * Decimal("0.000015")
    rows = {row["individual_request_tag"]: row for row in stack.admin("GET", "/spend/tags")}
    assert set(rows) == set(TAGS)
    assert all((row["log_count"], row["total_spend"]) == (1, spend) for row in rows.values())
    (request,) = mock.requests()
    assert request["body"]["model"] == SONNET
    assert "metadata" not in request["body"]


def test_a_spent_budget_stops_the_agent_before_the_provider_hears_of_it(stack, mock):
    team = stack.team(team_alias="engineering", max_budget=5000, budget_duration="1mo")
    key = stack.key(team_id=team, key_alias="small-dev-key", max_budget=0.01, budget_duration="1mo")
    served = 0
    while (response := stack.messages(key, {"max_tokens": 200})).status_code == 200:
        served += 1
        stack.settled(key)
        assert served < 100
    assert response.status_code == 402
    assert served > 5, "what was not used is given back"
    info = stack.key_info(key)
    assert info["spend"] == served * (3 * Decimal("0.000003") + 20 * Decimal("0.000015"))
    assert mock.count() == served
    assert info["spend"] + Decimal(response.headers["x-tollgate-requested"]) > info["max_budget"]
