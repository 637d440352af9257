//! What is found, however the output is cut, and what is not.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn pattern(pattern: &str) -> OutputMatch {
    OutputMatch { pattern: pattern.to_owned(), ..OutputMatch::default() }
}

/// All that is found in standard output that comes in these pieces and then ends.
fn find_in(patterns: &[OutputMatch], pieces: &[&[u8]]) -> Vec<Found> {
    let mut matcher = Matcher::new(patterns);
    let mut found = Vec::new();
    for piece in pieces {
        found.extend(matcher.feed(Stream::Stdout, piece));
    }
    found.extend(matcher.search_rest(Stream::Stdout));
    found
}

fn places(found: &[Found]) -> Vec<(u64, u64)> {
    found.iter().map(|one| (one.offset, one.end_offset)).collect()
}

#[test]
fn matches_have_their_offsets_in_the_stream_and_their_text() {
    let found = find_in(&[pattern("o+")], &[b"one foo\nb", b"oo\xff two"]);
    assert_eq!(places(&found), [(0, 1), (5, 7), (9, 11), (15, 16)]);
    assert_eq!(found[2].text, "oo");
    let found = find_in(&[pattern("(?s-u)b.+")], &[b"b\xff"]);
    assert_eq!(found[0].text, "b\u{fffd}");
}

#[test]
fn a_match_lies_within_a_line() {
    assert_eq!(find_in(&[pattern(r"a\s*b")], &[b"a\nb\n"]), []);
    let found = find_in(&[pattern(r"a\s*b")], &[b"a\na  b\n"]);
    assert_eq!(places(&found), [(2, 6)]);
    let found = find_in(&[pattern(r"^\w+$")], &[b"one\nno no\ntwo\n"]);
    assert_eq!(places(&found), [(0, 3), (10, 13)]);
    let found = find_in(&[pattern(r"\A\w+\z")], &[b"one\nno no\ntwo\n"]);
    assert_eq!(places(&found), [(0, 3), (10, 13)]);
}

#[test]
fn a_prompt_is_found_in_silence_and_not_again_with_the_rest_of_its_line() {
    let mut matcher = Matcher::new(&[pattern("[a-z]+: ")]);
    assert_eq!(matcher.feed(Stream::Stderr, b"on\npassword: "), []);
    assert_eq!(matcher.unsearched(), [false, true]);
    assert_eq!(places(&matcher.search_rest(Stream::Stderr)), [(3, 13)]);
    assert_eq!(matcher.unsearched(), [false, false]);
    assert_eq!(matcher.search_rest(Stream::Stderr), []);
    assert_eq!(places(&matcher.feed(Stream::Stderr, b"x: y\nz: \n")), [(13, 16), (18, 21)]);
}

#[test]
fn each_stream_is_searched_by_the_patterns_that_ask_for_it() {
    let both = pattern("a");
    let of = |stream| OutputMatch { stream, ..pattern("a") };
    let mut matcher = Matcher::new(&[both, of(MatchStream::Stdout), of(MatchStream::Stderr)]);
    let mut who =
        |stream| -> Vec<_> { matcher.feed(stream, b"a\n").iter().map(|one| one.pattern).collect() };
    assert_eq!((who(Stream::Stdout), who(Stream::Stderr)), (vec![0, 1], vec![0, 2]));
}

#[test]
fn once_means_the_first_in_either_stream() {
    let mut matcher = Matcher::new(&[OutputMatch { once: true, ..pattern("a") }]);
    assert_eq!(places(&matcher.feed(Stream::Stderr, b"xa a\na\n")), [(1, 2)]);
    assert_eq!(matcher.feed(Stream::Stdout, b"a\n"), []);
    assert!(!matcher.wants(Stream::Stderr));
}

#[test]
fn no_more_matches_are_told_than_the_bound() {
    let found = find_in(&[pattern("a"), pattern("b")], &[&b"ab\n".repeat(1_000)]);
    assert_eq!(found.len() as u64, MATCHES_MAX);
    assert_eq!(places(&found).last(), Some(&(1_498, 1_499)));
}

#[test]
fn a_long_line_is_searched_in_parts_and_what_lies_across_them_is_found_once() {
    for place in [STEP_BYTES - 2, STEP_BYTES, LINE_BYTES_MAX - 2, LINE_BYTES_MAX, 200_000] {
        let mut line = vec![b'x'; 250_000];
        line[place..place + 5].copy_from_slice(b"ready");
        let expected = [(place as u64, place as u64 + 5)];
        assert_eq!(places(&find_in(&[pattern("ready")], &[&line])), expected);
        line.push(b'\n');
        assert_eq!(places(&find_in(&[pattern(r"read\w")], &[&line])), expected);
    }
    let long = [b"x".repeat(250_000), b"\nx".to_vec()].concat();
    assert_eq!(places(&find_in(&[pattern("^x")], &[&long])), [(0, 1), (250_001, 250_002)]);
}

#[test]
fn an_unfinished_line_keeps_no_more_than_a_part() {
    let mut matcher = Matcher::new(&[pattern("a")]);
    for _ in 0..10 {
        matcher.feed(Stream::Stdout, &vec![b'x'; LINE_BYTES_MAX]);
        assert!(matcher.lines[0].bytes.len() <= LINE_BYTES_MAX + 2);
    }
}

/// The output in pieces that end at these places.
fn pieces<'a>(output: &'a [u8], cuts: &mut Vec<usize>) -> Vec<&'a [u8]> {
    for cut in &mut *cuts {
        *cut = (*cut).min(output.len());
    }
    cuts.extend([0, output.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &output[pair[0]..pair[1]]).collect()
}

/// What is found in each line by itself, which is what the rules say.
fn line_by_line(matches: &[OutputMatch], output: &[u8]) -> Vec<(u64, u64, usize)> {
    let mut all = Vec::new();
    let mut offset = 0;
    for line in output.split(|byte| *byte == b'\n') {
        let mut found = Vec::new();
        for (place, one) in matches.iter().enumerate() {
            let regex = one.compile().unwrap().regex;
            let places = regex.find_iter(line).filter(|found| !found.is_empty());
            found.extend(places.map(|found| (found.start() as u64, found.end() as u64, place)));
        }
        found.sort_by_key(|(begin, _, place)| (*begin, *place));
        all.extend(found.into_iter().map(|(a, b, place)| (offset + a, offset + b, place)));
        offset += line.len() as u64 + 1;
    }
    all
}

const PATTERNS: [&str; 14] = [
    "a", "ab", "a*", "a+$", "^a", "^$", r"\ba", r"a\B", r"\Aa", r"b\z", "a[^b]", "(?s)a.b",
    "(?R)a$", r"b\s*",
];

proptest! {
    #[test]
    fn any_cut_of_the_output_gives_the_same_matches_as_its_lines(
        output in vec(select(&b"aab \r\n\n"[..]), 0..60),
        mut cuts in vec(0..60_usize, 0..8),
        chosen in vec(select(&PATTERNS[..]), 1..4),
    ) {
        let matches: Vec<_> = chosen.iter().map(|one| pattern(one)).collect();
        let pieces = pieces(&output, &mut cuts);
        let found = find_in(&matches, &pieces);
        let found: Vec<_> =
            found.iter().map(|one| (one.offset, one.end_offset, one.pattern)).collect();
        prop_assert_eq!(found, line_by_line(&matches, &output));
    }

    #[test]
    fn any_cut_of_a_long_line_gives_the_same_matches(
        length in 0..300_000_usize,
        readies in vec(0..300_000_usize, 0..20),
        mut cuts in vec(0..300_000_usize, 0..8),
    ) {
        let mut output = vec![b'x'; length];
        for place in readies.into_iter().filter(|place| place + 6 < length) {
            output[place..place + 6].copy_from_slice(b"ready ");
        }
        let matches = [pattern("ready"), pattern(r"x\b|\bx"), pattern("^.|.$")];
        let whole = find_in(&matches, &[&output]);
        let pieces = pieces(&output, &mut cuts);
        prop_assert_eq!(find_in(&matches, &pieces), whole);
    }
}
