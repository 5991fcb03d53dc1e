use super::*;

fn headers(lines: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    lines.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect()
}

fn classified(method: &str, path: &str, lines: &[(&str, &str)]) -> Result<Request, Denial> {
    classify(&Head { method, path, headers: &headers(lines) })
}

#[test]
fn operations_are_known_byte_for_byte() {
    use Operation::*;
    let unknown = || Err(Denial::UnknownOperation);
    let table = [
        ("POST", "/v1/messages", Ok(Answer(Api::Messages))),
        ("POST", "/v1/messages?beta=true", Ok(Answer(Api::Messages))),
        ("POST", "/v1/messages?", Ok(Answer(Api::Messages))),
        ("POST", "/v1/messages/count_tokens?beta=true", Ok(CountTokens)),
        ("POST", "/v1/chat/completions", Ok(Answer(Api::ChatCompletions))),
        ("POST", "/chat/completions", Ok(Answer(Api::ChatCompletions))),
        ("POST", "/v1/responses", Ok(Answer(Api::Responses))),
        ("POST", "/v1/embeddings", Ok(Answer(Api::Embeddings))),
        ("POST", "/v1/completions", Ok(Answer(Api::Completions))),
        ("GET", "/v1/models", Ok(Models(None))),
        ("GET", "/models", Ok(Models(None))),
        ("GET", "/v1/models?limit=1000", Ok(Models(None))),
        ("GET", "/v1/models?limit=20&after_id=claude-x", Ok(Models(None))),
        ("GET", "/v1/models/gpt-4.1", Ok(Models(Some("gpt-4.1".into())))),
        ("HEAD", "/api/hello", Ok(Hello)),
        ("GET", "/api/hello", Ok(Hello)),
        ("GET", "/v1/messages", unknown()),
        ("POST", "/v1/messages/", unknown()),
        ("POST", "/v1//messages", unknown()),
        ("POST", "/V1/messages", unknown()),
        ("POST", "/v1/messages%3Fbeta", unknown()),
        ("POST", "/v1/messages?beta=false", unknown()),
        ("POST", "/v1/messages?beta=true&x=1", unknown()),
        ("POST", "/v1/messages/../models", unknown()),
        ("POST", "/v1/chat/completions?beta=true", unknown()),
        ("GET", "/v1/models/", unknown()),
        ("GET", "/v1/models/a/b", unknown()),
        ("GET", "/v1/models/..", unknown()),
        ("GET", "/v1/models?limit=99999", unknown()),
        ("DELETE", "/v1/models/gpt-4.1", unknown()),
        ("CONNECT", "", unknown()),
        ("GET", "/", unknown()),
        ("POST", "/v1/messages/batches", Err(Denial::NotMetered("message batches"))),
        ("POST", "/v1/batches", Err(Denial::NotMetered("message batches"))),
        ("POST", "/v1/files", Err(Denial::NotMetered("files"))),
        ("POST", "/v1/threads/t/runs", Err(Denial::NotMetered("assistants"))),
        ("GET", "/v1/realtime", Err(Denial::NotMetered("realtime"))),
        ("POST", "/v1/images/generations", Err(Denial::NotMetered("images"))),
        ("POST", "/v1/messages?api_key=sk-x", Err(Denial::KeyInQuery)),
        ("POST", "/v1/messages?beta=true&KEY=x", Err(Denial::KeyInQuery)),
        ("GET", "/whatever?x=sk-tg-abc", Err(Denial::KeyInQuery)),
    ];
    for (method, path, expected) in table {
        let operation = classified(method, path, &[]).map(|request| request.operation);
        assert_eq!(operation, expected, "{method} {path}");
    }
}

#[test]
fn the_error_has_the_shape_of_the_api_that_asks() {
    let shape = |path, lines: &[(&str, &str)]| shape(&Head { method: "GET", path, headers: &headers(lines) });
    assert_eq!(shape("/v1/messages?beta=true", &[]), Shape::Anthropic);
    assert_eq!(shape("/v1/models", &[]), Shape::OpenAi);
    assert_eq!(shape("/v1/models", &[("anthropic-version", "2023-06-01")]), Shape::Anthropic);
    assert_eq!(shape("/nowhere", &[]), Shape::OpenAi);
}

#[test]
fn bodies_are_plain_json_or_refused() {
    let post = |lines: &[(&str, &str)]| classified("POST", "/v1/messages", lines).err();
    let table: [(&[(&str, &str)], Option<Denial>); 10] = [
        (&[], None),
        (&[("content-type", "application/json")], None),
        (&[("content-type", "Application/JSON; Charset=\"UTF-8\"")], None),
        (&[("content-type", "application/json; charset=latin1")], Some(Denial::MediaType)),
        (&[("content-type", "application/x-www-form-urlencoded")], Some(Denial::MediaType)),
        (&[("content-type", "application/json"), ("content-type", "text/plain")], Some(Denial::MediaType)),
        (&[("content-encoding", "identity")], None),
        (&[("content-encoding", "gzip")], Some(Denial::ContentEncoding)),
        (&[("content-encoding", "identity"), ("content-encoding", "br")], Some(Denial::ContentEncoding)),
        (&[("upgrade", "WebSocket")], Some(Denial::WebSocket)),
    ];
    for (lines, expected) in table {
        assert_eq!(post(lines), expected, "{lines:?}");
    }
}

#[test]
fn one_credential_wherever_it_stands() {
    let of =
        |lines: &[(&str, &str)]| credential(&Head { method: "POST", path: "/", headers: &headers(lines) });
    let digest = Ok(key::digest(b"sk-tg-x"));
    let table: [(&[(&str, &str)], _); 18] = [
        (&[("x-api-key", "sk-tg-x")], digest.clone()),
        (&[("authorization", "Bearer sk-tg-x,Bearer sk-tg-x")], digest.clone()),
        (&[("authorization", "Bearer a, bearer b")], Err(Denial::KeyConflict)),
        (&[("authorization", "Bearer a,b")], Ok(key::digest(b"a,b"))),
        (&[("authorization", "Bearer ,Bearer")], Err(Denial::KeyMissing)),
        (&[("authorization", "Bearer sk-tg-x")], digest.clone()),
        (&[("authorization", "bearer   sk-tg-x ")], digest.clone()),
        (&[("api-key", "sk-tg-x")], digest.clone()),
        (&[("x-goog-api-key", "sk-tg-x")], digest.clone()),
        (&[("x-api-key", "sk-tg-x"), ("authorization", "Bearer sk-tg-x")], digest.clone()),
        (&[("x-api-key", ""), ("authorization", "Bearer sk-tg-x")], digest),
        (&[("authorization", "Basic abc")], Ok(key::digest(b"Basic abc"))),
        (&[], Err(Denial::KeyMissing)),
        (&[("x-api-key", " "), ("authorization", "Bearer ")], Err(Denial::KeyMissing)),
        (&[("x-api-key", "a"), ("authorization", "Bearer b")], Err(Denial::KeyConflict)),
        (&[("x-api-key", "a"), ("x-api-key", "b")], Err(Denial::KeyConflict)),
        (&[("authorization", "Bearer a"), ("authorization", "Bearer b")], Err(Denial::KeyConflict)),
        (&[("authorization", "Bearer sk-ant-oat01-x")], Err(Denial::SubscriptionLogin)),
    ];
    for (lines, expected) in table {
        assert_eq!(of(lines), expected, "{lines:?}");
    }
}

#[test]
fn the_client_says_who_it_is_and_why() {
    let lines = [
        ("user-agent", "claude-cli/2.1.0 (external, cli)"),
        ("x-claude-code-session-id", "0b5c"),
        ("x-tollgate-tags", "project:a, agent:b,,"),
        ("x-litellm-tags", "project:a,team:c"),
    ];
    let client = classified("POST", "/v1/messages", &lines).unwrap().client;
    assert_eq!(client.product.as_deref(), Some("claude-cli"));
    assert_eq!(client.session.as_deref(), Some("0b5c"));
    let tags: Vec<_> = client.tags.iter().map(Tag::as_str).collect();
    assert_eq!(tags, ["project:a", "agent:b", "team:c"]);
    assert!(classified("POST", "/v1/responses", &[("originator", "codex_cli_rs")]).unwrap().client.codex);
    let bad = classified("POST", "/v1/messages", &[("x-tollgate-tags", "a b")]);
    assert_eq!(bad, Err(Denial::Tag { tag: "a b".into() }));
    let many = (0..17).map(|n| format!("t{n}")).collect::<Vec<_>>().join(",");
    assert_eq!(classified("POST", "/v1/messages", &[("x-tollgate-tags", &many)]), Err(Denial::TooManyTags));
}

#[test]
fn what_stays_behind() {
    for name in CREDENTIAL_HEADERS.iter().chain(&[
        "x-envoy-retry-on",
        "x-forwarded-for",
        "x-goog-user-project",
        "cookie",
        "x_api_key",
    ]) {
        assert!(stays_behind(name), "{name}");
    }
    for name in
        ["anthropic-version", "anthropic-beta", "content-type", "user-agent", "x-stainless-lang", "accept"]
    {
        assert!(!stays_behind(name), "{name}");
    }
}
