//! Random changes of seeds, the same ones for the same seed number on every machine.

/// Longer inputs take time and find nothing else.
const INPUT_BYTES_MAX: usize = 16 * 1024;
const CHANGES_MAX: usize = 6;

/// Words that parsers look for.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "false",
    "{}",
    "[]",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "\\n",
    "\n",
    "\r\n",
    " ",
    "\t",
    "=",
    "#",
    "-",
    "+",
    ".",
    "/",
    "../",
    "\n====\n",
    "0s",
    "-1s",
    "1.5s",
    "0.000000001s",
    "315360000s",
    "9223372036854775807s",
    "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "2026-02-30T00:00:60Z",
    "KiB",
    "none",
    "é",
    "\u{10ffff}",
    "\u{1b}[2J",
    "\u{85}",
    "(?i)",
    "a{1000}",
    "[^a]*",
    "\\p{L}",
    "01kb0000000000000000000000",
    "7zzzzzzzzzzzzzzzzzzzzzzzzz",
    " output ",
    " snapshot ",
    "limits",
    "retry",
    "secret_env",
    "stdin",
    "accepted",
    "abridged",
    "events",
    "crc",
    "seq",
    "kind",
    "time",
];

/// Numbers at the edges of the types that hold them.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    31,
    32,
    64,
    127,
    255,
    256,
    511,
    512,
    4095,
    4096,
    65535,
    65536,
    i32::MAX as u64,
    u32::MAX as u64 - 1,
    u32::MAX as u64,
    1 << 32,
    (1 << 53) + 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - (1 << 32),
    u64::MAX - 1,
    u64::MAX,
];

/// Xorshift: numbers that are random enough here, and always the same.
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of this seed for this target.
    pub(crate) fn new(seed: u64, target: &str) -> Self {
        let hashed = target.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hashed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, which is more than zero.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next() >> 11) % bound as u64).unwrap()
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Makes inputs out of those of a corpus.
pub(crate) struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(corpus: &'a [Vec<u8>]) -> Self {
        Self { corpus }
    }

    /// The next input.
    pub(crate) fn input(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = match self.corpus {
            [] => Vec::new(),
            corpus => random.of(corpus).clone(),
        };
        for _ in 0..=random.below(CHANGES_MAX) {
            self.change(&mut bytes, random);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    fn change(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        let at = random.below(bytes.len() + 1);
        let (from, to) = range(bytes.len(), random);
        match random.below(12) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(from..to)),
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            3 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next().to_le_bytes()[0];
                }
            }
            // A range twice, in place or elsewhere.
            4 => {
                let copy = bytes[from..to].to_vec();
                insert(bytes, at, &copy);
            }
            5 => {
                let other = random.of(self.corpus);
                let (from, to) = range(other.len(), random);
                insert(bytes, at, &other[from..to]);
            }
            6 => {
                let other = random.of(self.corpus);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[at.min(other.len())..]);
            }
            7 => insert(bytes, at, random.of(WORDS).as_bytes()),
            8 => drop(bytes.splice(from..to, random.of(WORDS).bytes())),
            9 => {
                // Where a record has its numbers, half of the time.
                let at = if random.below(2) == 0 { at } else { at / 8 * 8 };
                let number = random.of(NUMBERS).to_le_bytes();
                let number = if random.below(2) == 0 { &number[..] } else { &number[..4] };
                let end = (at + number.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            10 | 11 => replace_number(bytes, at, random),
            _ => unreachable!("there are no more kinds of changes"),
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    drop(bytes.splice(at..at, new.iter().copied()));
}

/// A range of few bytes mostly, of any number sometimes.
fn range(length: usize, random: &mut Random) -> (usize, usize) {
    let from = random.below(length + 1);
    let most = if random.below(4) == 0 { length } else { 16 };
    (from, (from + random.below(most + 1)).min(length))
}

/// Puts a number of the edges into the place of the digits that come next.
fn replace_number(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(from) = bytes[at..].iter().position(u8::is_ascii_digit).map(|from| at + from) else {
        return;
    };
    let digits = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut text = random.of(NUMBERS).to_string();
    if random.below(6) == 0 {
        text.insert(0, '-');
    }
    drop(bytes.splice(from..from + digits, text.bytes()));
}

#[test]
fn the_same_seed_makes_the_same_inputs_and_another_makes_others() {
    let corpus = [b"{\"seq\":1,\"kind\":\"claimed\"}\n".to_vec(), vec![0; 64]];
    let inputs = |seed, target| -> Vec<Vec<u8>> {
        let (mutator, mut random) = (Mutator::new(&corpus), Random::new(seed, target));
        (0..200).map(|_| mutator.input(&mut random)).collect()
    };
    assert_eq!(inputs(1, "a"), inputs(1, "a"));
    assert_ne!(inputs(1, "a"), inputs(2, "a"));
    assert_ne!(inputs(1, "a"), inputs(1, "b"));
    assert!(inputs(1, "a").iter().filter(|input| corpus.contains(input)).count() < 20);
}
