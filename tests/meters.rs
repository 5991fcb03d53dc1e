//! The meters against answers as the providers document them, written by us: each is read whole, cut at every byte,
//! byte by byte, and broken off at every byte. `golden/<provider>-<api>-<what>.json|.sse` is an answer,
//! `<answer>.expect.json` names the pages that document its fields and what must be read of it.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tollgate_domain::api::Api;
use tollgate_domain::meter::{Meter, Reading};
use tollgate_domain::usage::Usage;

/// One answer, and what is expected of it.
struct Golden {
    name: String,
    api: Api,
    is_stream: bool,
    bytes: Vec<u8>,
    expect: Value,
}

impl Golden {
    fn load(path: &Path) -> Self {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let expect = fs::read_to_string(format!("{}.expect.json", path.display())).expect(&name);
        let expect: Value = serde_json::from_str(&expect).expect(&name);
        let api = Api::ALL.into_iter().find(|api| expect["api"] == api.as_str()).expect(&name);
        let bytes = fs::read(path).unwrap();
        Self { is_stream: name.ends_with(".sse"), name, api, bytes, expect }
    }

    fn meter(&self) -> Meter {
        if self.is_stream { Meter::events(self.api) } else { Meter::json(self.api) }
    }

    /// What is read of the answer when it comes in these chunks.
    fn read<'a>(&self, chunks: impl IntoIterator<Item = &'a [u8]>) -> Reading {
        let mut meter = self.meter();
        for chunk in chunks {
            meter.feed(chunk);
        }
        meter.reading()
    }

    fn expected(&self) -> Reading {
        let text = |name: &str| self.expect[name].as_str().map(str::to_owned);
        let flag = |name: &str| self.expect[name].as_bool().expect(name);
        let mut reading = self.read([self.bytes.as_slice()]);
        reading.usage = usage(&self.expect["usage"]);
        reading.model = text("model");
        reading.modifiers.service_tier = text("service_tier");
        reading.modifiers.speed = text("speed");
        reading.modifiers.inference_geo = text("inference_geo");
        reading.output_bytes = self.expect["output_bytes"].as_u64().expect("output_bytes");
        reading.error = flag("error");
        reading.extra = self.expect["extra"].as_array().unwrap().iter().map(part).collect();
        reading
    }

    /// After how many bytes the reading is final.
    fn final_at(&self) -> Option<usize> {
        if !self.expect["final"].as_bool().unwrap() {
            return None;
        }
        Some(match self.expect["final_after"].as_str() {
            Some(needle) => self.after(needle),
            None => self.bytes.iter().rposition(|byte| *byte == b'}').unwrap() + 1,
        })
    }

    /// The place behind a text.
    fn after(&self, needle: &str) -> usize {
        let windows = self.bytes.windows(needle.len());
        let start = windows.enumerate().find(|(_, window)| *window == needle.as_bytes()).expect(needle).0;
        start + needle.len()
    }
}

fn usage(value: &Value) -> Option<Usage> {
    let class = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{name} of {value}"));
    (!value.is_null()).then(|| Usage {
        input: class("input"),
        cache_read: class("cache_read"),
        cache_write_5m: class("cache_write_5m"),
        cache_write_1h: class("cache_write_1h"),
        output: class("output"),
        web_searches: class("web_searches"),
    })
}

fn part(value: &Value) -> (String, Usage) {
    (value["model"].as_str().unwrap().to_owned(), usage(&value["usage"]).unwrap())
}

fn goldens() -> Vec<Golden> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let is_answer = |path: &PathBuf| {
        let name = path.to_str().unwrap();
        name.ends_with(".sse") || (name.ends_with(".json") && !name.ends_with(".expect.json"))
    };
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(is_answer).collect();
    paths.sort();
    assert!(paths.len() >= 40, "goldens are missing: {}", paths.len());
    paths.iter().map(|path| Golden::load(path)).collect()
}

#[test]
fn whole_answers_are_read_as_documented() {
    for golden in goldens() {
        let reading = golden.read([golden.bytes.as_slice()]);
        assert_eq!(reading, golden.expected(), "{}", golden.name);
        assert_eq!(reading.is_final(), golden.final_at().is_some(), "{}", golden.name);
    }
}

#[test]
fn every_golden_names_the_pages_that_document_it() {
    for golden in goldens() {
        let pages = golden.expect["pages"].as_array().expect(&golden.name);
        let is_page = |page: &Value| page.as_str().is_some_and(|page| page.starts_with("https://"));
        assert!(!pages.is_empty() && pages.iter().all(is_page), "{}", golden.name);
    }
}

#[test]
fn a_chunk_may_end_at_any_byte() {
    // The work grows with the square of the answers: the cores share it.
    let goldens = goldens();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let goldens = &goldens;
            scope.spawn(move || goldens.iter().skip(worker).step_by(workers).for_each(cut_everywhere));
        }
    });
}

fn cut_everywhere(golden: &Golden) {
    let expected = golden.expected();
    for at in 0..=golden.bytes.len() {
        let (head, tail) = golden.bytes.split_at(at);
        assert_eq!(golden.read([head, tail]), expected, "{} cut at {at}", golden.name);
    }
    for size in [1, 2, 3, 7, 16, 61, 1024] {
        let reading = golden.read(golden.bytes.chunks(size));
        assert_eq!(reading, expected, "{} in chunks of {size}", golden.name);
    }
}

/// What broke off is never taken for the whole, and what it told stays told.
#[test]
fn an_answer_may_break_off_at_any_byte() {
    for golden in goldens() {
        let final_at = golden.final_at().unwrap_or(usize::MAX);
        let mut meter = golden.meter();
        let mut before = meter.reading();
        assert!(!before.is_final());
        for (at, byte) in golden.bytes.iter().enumerate() {
            meter.feed(&[*byte]);
            let reading = meter.reading();
            assert_eq!(reading.is_final(), at + 1 >= final_at, "{} broken off at {}", golden.name, at + 1);
            assert!(
                reading.usage.is_some() || before.usage.is_none(),
                "{} forgot at {}",
                golden.name,
                at + 1
            );
            assert!(reading.output_bytes >= before.output_bytes, "{} at {}", golden.name, at + 1);
            before = reading;
        }
    }
}

#[test]
fn a_broken_answer_says_what_was_known() {
    let mut rows = 0;
    for golden in goldens() {
        for row in golden.expect["truncated"].as_array().expect(&golden.name) {
            let needle = row["after"].as_str().unwrap();
            let reading = golden.read([&golden.bytes[..golden.after(needle)]]);
            let got = (reading.usage, Some(reading.output_bytes), reading.is_final());
            let expected = (usage(&row["usage"]), row["output_bytes"].as_u64(), false);
            assert_eq!(got, expected, "{} after {needle:?}", golden.name);
            rows += 1;
        }
    }
    assert!(rows >= 10, "{rows}");
}
