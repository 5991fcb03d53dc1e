//! What changes in a body before it goes on, as edits of byte ranges: the rest passes untouched and unread.

use crate::json::Member;

/// Replaces the bytes `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The first byte that goes.
    pub start: u64,
    /// After the last byte that goes; equal to `start` for an insertion.
    pub end: u64,
    /// What comes instead.
    pub with: Vec<u8>,
}

/// Edits of one body, in order and without overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits(Vec<Edit>);

impl Edits {
    /// Brings edits into order. `removals` are members of objects that go with the right one of their commas.
    pub fn new(mut edits: Vec<Edit>, mut removals: Vec<Member>) -> Self {
        removals.sort_by_key(|member| member.start);
        let mut run_start: Option<u64> = None;
        let mut previous_comma: Option<u64> = None;
        for member in removals {
            // Members that go one after another: the last one of an object takes the comma before the first of them.
            let continues = member.comma_before.is_some() && member.comma_before == previous_comma;
            let before_run = if continues { run_start } else { member.comma_before };
            let (start, end) = match member.comma_after {
                Some(comma) => (member.start, comma.saturating_add(1)),
                None => (before_run.unwrap_or(member.start), member.end),
            };
            while edits
                .last()
                .is_some_and(|last| last.with.is_empty() && last.start >= start && last.end <= end)
            {
                edits.pop();
            }
            edits.push(Edit { start, end, with: Vec::new() });
            run_start = before_run;
            previous_comma = member.comma_after;
        }
        edits.sort_by_key(|edit| (edit.start, edit.end));
        Self(edits)
    }

    /// Whether the body passes as it is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The end of the last edit: what comes after passes as it is.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |edit| edit.end)
    }

    /// The part `[offset, offset + bytes.len())` of the body, edited. Parts must be given in order, each once, and an
    /// insertion belongs to the part that begins with its place.
    pub fn apply(&self, offset: u64, bytes: &[u8]) -> Vec<u8> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let part_end = offset.saturating_add(length);
        let index = |at: u64| {
            usize::try_from(at.clamp(offset, part_end).saturating_sub(offset)).unwrap_or(usize::MAX)
        };
        let mut edited = Vec::with_capacity(bytes.len());
        let mut kept_from = 0;
        for edit in self
            .0
            .iter()
            .filter(|edit| edit.start < part_end && edit.end.max(edit.start.saturating_add(1)) > offset)
        {
            edited.extend_from_slice(bytes.get(kept_from..index(edit.start)).unwrap_or_default());
            if edit.start >= offset {
                edited.extend_from_slice(&edit.with);
            }
            kept_from = index(edit.end);
        }
        edited.extend_from_slice(bytes.get(kept_from..).unwrap_or_default());
        edited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(start: u64, end: u64, with: &str) -> Edit {
        Edit { start, end, with: with.as_bytes().to_vec() }
    }

    #[test]
    fn parts_of_any_size_give_the_same_body() {
        let body = b"0123456789";
        let edits =
            Edits::new(vec![edit(8, 9, ""), edit(2, 5, "abcdef"), edit(6, 6, "-"), edit(0, 0, "<")], vec![]);
        for size in 1..=body.len() {
            let mut whole = Vec::new();
            for (index, part) in body.chunks(size).enumerate() {
                whole.extend(edits.apply((index * size) as u64, part));
            }
            assert_eq!(String::from_utf8(whole).unwrap(), "<01abcdef5-679", "parts of {size}");
        }
        assert_eq!(edits.end(), 9);
    }
}
