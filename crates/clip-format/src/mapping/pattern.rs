//! Name patterns with placeholders.

use clip_core::{Error, Result};

/// A parsed pattern, for instance `blocks.{i}.norm.{p}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// `{i}`, `{j}`
    Number,
    /// `{p}`
    Part,
    /// `{n}`
    NormPart,
    /// `{*}`
    Anything,
}

impl Pattern {
    /// Parses a pattern that stands under a literal prefix.
    pub(super) fn new(prefix: &str, pattern: &str) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut rest = pattern;
        let mut literal = prefix.to_owned();
        while let Some((before, placeholder)) = rest.split_once('{') {
            let (kind, after) = placeholder.split_once('}').ok_or_else(|| unknown(pattern))?;
            literal.push_str(before);
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(match kind {
                "i" | "j" => Piece::Number,
                "p" => Piece::Part,
                "n" => Piece::NormPart,
                "*" => Piece::Anything,
                _ => return Err(unknown(pattern)),
            });
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    pub(super) fn anything() -> Self {
        Self {
            pieces: vec![Piece::Anything],
        }
    }

    /// The kinds of placeholders, in order.
    pub(super) fn placeholders(&self) -> Vec<&'static str> {
        let kind = |piece: &Piece| match piece {
            Piece::Literal(_) => None,
            Piece::Number => Some("{i}"),
            Piece::Part => Some("{p}"),
            Piece::NormPart => Some("{n}"),
            Piece::Anything => Some("{*}"),
        };
        self.pieces.iter().filter_map(kind).collect()
    }

    /// What the placeholders stand for, if the whole name matches.
    pub(super) fn captures<'n>(&self, name: &'n str) -> Option<Vec<&'n str>> {
        let mut captures = Vec::new();
        matches(&self.pieces, name, &mut captures).then_some(captures)
    }

    /// The name with the placeholders filled in.
    pub(super) fn expand(&self, captures: &[&str]) -> String {
        let mut captures = captures.iter();
        let piece = |piece: &Piece| match piece {
            Piece::Literal(text) => text.clone(),
            _ => captures.next().copied().unwrap_or_default().to_owned(),
        };
        self.pieces.iter().map(piece).collect()
    }
}

/// What a norm's parts are called, and what they are. `gamma` and `beta` are what they were called in TensorFlow, whose
/// checkpoints of BERT were converted with them.
const NORM_PARTS: [(&str, &str); 4] = [
    ("weight", "weight"),
    ("bias", "bias"),
    ("gamma", "weight"),
    ("beta", "bias"),
];

fn matches<'n>(pieces: &[Piece], name: &'n str, captures: &mut Vec<&'n str>) -> bool {
    let Some((piece, pieces)) = pieces.split_first() else {
        return name.is_empty();
    };
    let mut capture = |captured: &'n str, length: usize| {
        captures.push(captured);
        let matched = matches(pieces, &name[length..], captures);
        if !matched {
            captures.pop();
        }
        matched
    };
    let mut with = |length: usize| capture(&name[..length], length);
    match piece {
        Piece::Literal(text) => name
            .strip_prefix(text.as_str())
            .is_some_and(|rest| matches(pieces, rest, captures)),
        Piece::Number => {
            let digits = name.bytes().take_while(u8::is_ascii_digit).count();
            let canonical = digits == 1 || (digits > 1 && !name.starts_with('0'));
            canonical && with(digits)
        }
        Piece::Part => {
            let part = ["weight", "bias"].into_iter().find(|part| name.starts_with(part));
            part.is_some_and(|part| with(part.len()))
        }
        Piece::NormPart => {
            let part = NORM_PARTS.into_iter().find(|(part, _)| name.starts_with(part));
            part.is_some_and(|(part, means)| capture(means, part.len()))
        }
        Piece::Anything => {
            let ends: Vec<usize> = name
                .char_indices()
                .map(|(at, _)| at)
                .skip(1)
                .chain([name.len()])
                .collect();
            ends.into_iter().rev().filter(|&end| end > 0).any(with)
        }
    }
}

fn unknown(pattern: &str) -> Error {
    Error::internal(format!(
        "the pattern `{pattern}` holds an unknown placeholder; known: {{i}}, {{j}}, {{p}}, {{n}}, {{*}}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captures<'n>(pattern: &str, name: &'n str) -> Option<Vec<&'n str>> {
        Pattern::new("", pattern).unwrap().captures(name)
    }

    #[test]
    fn placeholders_match_what_they_say() {
        assert_eq!(
            captures("blocks.{i}.ln.{p}", "blocks.10.ln.bias"),
            Some(vec!["10", "bias"])
        );
        assert_eq!(captures("blocks.{i}.ln.{p}", "blocks.010.ln.bias"), None);
        assert_eq!(captures("blocks.{i}.ln.{p}", "blocks.1.ln.biased"), None);
        assert_eq!(
            captures("{*}.num_batches_tracked", "a.b.num_batches_tracked"),
            Some(vec!["a.b"])
        );
        assert_eq!(captures("norm.{n}", "norm.weight"), Some(vec!["weight"]));
        assert_eq!(captures("norm.{n}", "norm.beta"), Some(vec!["bias"]));
        assert_eq!(captures("norm.{n}", "norm.gammas"), None);
        assert_eq!(captures("norm.{p}", "norm.gamma"), None);
        assert_eq!(captures("{*}", ""), None);
        assert_eq!(captures("é{*}", "éöx"), Some(vec!["öx"]));
        assert!(Pattern::new("", "{x}").is_err() && Pattern::new("", "{i").is_err());
    }

    #[test]
    fn a_name_comes_back_from_its_captures() {
        let pattern = Pattern::new("visual.", "layer{i}.{j}.bn.{p}").unwrap();
        let name = "visual.layer3.12.bn.weight";
        assert_eq!(pattern.expand(&pattern.captures(name).unwrap()), name);
    }
}
