//! The check that every input passes before anybody looks into it.

use std::collections::BTreeSet;

use super::{Value, first};

/// Lists and dictionaries within each other. Real messages nest five deep; the decoder recurses, so this bounds its stack.
const MAX_DEPTH: usize = 32;
/// Values in one input, unless the caller says otherwise.
const MAX_NODES: usize = 1_000_000;

/// What a decoder accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    max_len: usize,
    max_nodes: usize,
    sorted_keys: bool,
}

/// Why an input is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {problem}")]
pub struct DecodeError {
    /// Offset of the offending byte in the input.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It ends early.
    #[error("the input ends where {0} should be")]
    End(&'static str),
    /// A byte fits no rule.
    #[error("found '{}' where {expected} should be", found.escape_ascii())]
    Unexpected {
        /// What the grammar allows.
        expected: &'static str,
        /// What is there.
        found: u8,
    },
    /// A number or a length begins with a needless zero.
    #[error("the number has a leading zero")]
    LeadingZero,
    /// `-0`.
    #[error("minus zero is not a number")]
    MinusZero,
    /// A number or a length is out of range.
    #[error("the number does not fit 64 bits")]
    Overflow,
    /// A string reaches past the end.
    #[error("the string is {len} bytes long and {left} are left")]
    StringTooLong {
        /// The length it claims.
        len: u64,
        /// The bytes there are.
        left: usize,
    },
    /// The keys of a dictionary are out of order.
    #[error("the keys are not sorted")]
    Unsorted,
    /// The same key again.
    #[error("the key \"{0}\" occurs twice")]
    Duplicate(String),
    /// Lists and dictionaries are nested too deep.
    #[error("values are nested deeper than {max}")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// There are too many values.
    #[error("there are more than {max} values")]
    TooManyNodes {
        /// The limit.
        max: usize,
    },
    /// The input is longer than its reader allows.
    #[error("the input has {len} bytes, more than {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Something follows the value.
    #[error("more bytes follow the value")]
    Trailing,
}

impl DecodeOptions {
    /// Keys sorted, inputs of at most `max_len` bytes.
    #[must_use]
    pub const fn strict(max_len: usize) -> Self {
        Self { max_len, max_nodes: MAX_NODES, sorted_keys: true }
    }

    /// Accepts keys in any order: BEP 3 wants them sorted, not every writer does. Duplicates stay refused.
    #[must_use]
    pub const fn in_any_key_order(mut self) -> Self {
        self.sorted_keys = false;
        self
    }

    /// Accepts at most this many values.
    #[must_use]
    pub const fn with_max_nodes(mut self, max_nodes: usize) -> Self {
        self.max_nodes = max_nodes;
        self
    }
}

/// Decodes an input that is one value and nothing else.
///
/// # Errors
/// Where the input breaks the grammar or a limit.
pub fn decode(input: &[u8], options: DecodeOptions) -> Result<Value<'_>, DecodeError> {
    let (value, end) = decode_prefix(input, options)?;
    if end == input.len() { Ok(value) } else { Err(DecodeError { offset: end, problem: Problem::Trailing }) }
}

/// Decodes the value that begins an input, and says how long it is: BEP 9 puts raw bytes behind a dictionary.
///
/// # Errors
/// Where the value breaks the grammar or a limit.
pub fn decode_prefix(input: &[u8], options: DecodeOptions) -> Result<(Value<'_>, usize), DecodeError> {
    if input.len() > options.max_len {
        let problem = Problem::TooLong { len: input.len(), max: options.max_len };
        return Err(DecodeError { offset: options.max_len, problem });
    }
    let mut checker = Checker { input, at: 0, nodes: 0, keys: Vec::new(), options };
    checker.value(0)?;
    first(&input[..checker.at]).ok_or(DecodeError { offset: 0, problem: Problem::End("a value") })
}

struct Checker<'a> {
    input: &'a [u8],
    at: usize,
    nodes: usize,
    /// Keys of the dictionaries around `at`, outermost first, where order is free: for the day one comes unsorted.
    keys: Vec<&'a [u8]>,
    options: DecodeOptions,
}

impl<'a> Checker<'a> {
    fn value(&mut self, depth: usize) -> Result<(), DecodeError> {
        if self.nodes == self.options.max_nodes {
            return Err(self.problem(Problem::TooManyNodes { max: self.options.max_nodes }));
        }
        self.nodes += 1;
        match peek(self.input, self.at, "a value")? {
            b'i' => self.at = scan_int(self.input, self.at)?.1,
            b'0'..=b'9' => self.at = scan_string(self.input, self.at)?.1,
            b'l' | b'd' if depth == MAX_DEPTH => return Err(self.problem(Problem::TooDeep { max: MAX_DEPTH })),
            b'l' => self.list(depth + 1)?,
            b'd' => self.dict(depth + 1)?,
            found => return Err(self.problem(Problem::Unexpected { expected: "a value", found })),
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<(), DecodeError> {
        self.at += 1;
        while peek(self.input, self.at, "a value or 'e'")? != b'e' {
            self.value(depth)?;
        }
        self.at += 1;
        Ok(())
    }

    fn dict(&mut self, depth: usize) -> Result<(), DecodeError> {
        self.at += 1;
        let base = self.keys.len();
        let mut order = Order::Sorted(None);
        while peek(self.input, self.at, "a key or 'e'")? != b'e' {
            let key = self.key()?;
            order = self.add_key(order, key, base)?;
            self.at = scan_string(self.input, self.at)?.1;
            self.value(depth)?;
        }
        self.keys.truncate(base);
        self.at += 1;
        Ok(())
    }

    fn key(&self) -> Result<&'a [u8], DecodeError> {
        match peek(self.input, self.at, "a key or 'e'")? {
            b'0'..=b'9' => Ok(scan_string(self.input, self.at)?.0),
            found => Err(self.problem(Problem::Unexpected { expected: "a key or 'e'", found })),
        }
    }

    /// Keys that come sorted are compared with their neighbour; a set is made only for those that do not.
    fn add_key(&mut self, order: Order<'a>, key: &'a [u8], base: usize) -> Result<Order<'a>, DecodeError> {
        let lenient = !self.options.sorted_keys;
        let mut seen = match order {
            Order::Sorted(last) if last.is_none_or(|last| last < key) => {
                self.keys.extend(lenient.then_some(key));
                return Ok(Order::Sorted(Some(key)));
            }
            Order::Sorted(last) if last != Some(key) && lenient => self.keys[base..].iter().copied().collect(),
            Order::Sorted(last) if last != Some(key) => return Err(self.problem(Problem::Unsorted)),
            Order::Sorted(_) => BTreeSet::from([key]),
            Order::Unsorted(seen) => seen,
        };
        if seen.insert(key) {
            Ok(Order::Unsorted(seen))
        } else {
            Err(self.problem(Problem::Duplicate(key.escape_ascii().to_string())))
        }
    }

    const fn problem(&self, problem: Problem) -> DecodeError {
        DecodeError { offset: self.at, problem }
    }
}

/// How the keys of one dictionary came so far.
enum Order<'a> {
    /// Sorted, up to this one.
    Sorted(Option<&'a [u8]>),
    /// Not sorted: all of them.
    Unsorted(BTreeSet<&'a [u8]>),
}

fn peek(input: &[u8], at: usize, expected: &'static str) -> Result<u8, DecodeError> {
    input.get(at).copied().ok_or(DecodeError { offset: at, problem: Problem::End(expected) })
}

/// Reads `i…e` at `at`: the number, and where it ends.
pub(super) fn scan_int(input: &[u8], at: usize) -> Result<(i64, usize), DecodeError> {
    let start = at + 1;
    let negative = input.get(start) == Some(&b'-');
    let (magnitude, end) = scan_digits(input, start + usize::from(negative), start, "a digit or 'e'")?;
    match peek(input, end, "a digit or 'e'")? {
        b'e' => {}
        found => {
            return Err(DecodeError {
                offset: end,
                problem: Problem::Unexpected { expected: "a digit or 'e'", found },
            });
        }
    }
    let refuse = |problem| Err(DecodeError { offset: start, problem });
    match (negative, magnitude) {
        (true, 0) => refuse(Problem::MinusZero),
        (true, _) => {
            0_i64.checked_sub_unsigned(magnitude).map_or_else(|| refuse(Problem::Overflow), |n| Ok((n, end + 1)))
        }
        (false, _) => i64::try_from(magnitude).map_or_else(|_| refuse(Problem::Overflow), |n| Ok((n, end + 1))),
    }
}

/// Reads `n:…` at `at`: the bytes, and where they end.
pub(super) fn scan_string(input: &[u8], at: usize) -> Result<(&[u8], usize), DecodeError> {
    let (len, colon) = scan_digits(input, at, at, "a digit or ':'")?;
    match peek(input, colon, "a digit or ':'")? {
        b':' => {}
        found => {
            let problem = Problem::Unexpected { expected: "a digit or ':'", found };
            return Err(DecodeError { offset: colon, problem });
        }
    }
    let rest = &input[colon + 1..];
    let bytes = usize::try_from(len).ok().and_then(|len| rest.get(..len));
    let problem = Problem::StringTooLong { len, left: rest.len() };
    bytes.map(|bytes| (bytes, colon + 1 + bytes.len())).ok_or(DecodeError { offset: colon + 1, problem })
}

/// Reads a number without sign at `at`; `blame` is the offset that errors about its value name.
fn scan_digits(input: &[u8], at: usize, blame: usize, then: &'static str) -> Result<(u64, usize), DecodeError> {
    let digits = input.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    let end = at + digits;
    if digits == 0 {
        let found = peek(input, at, then)?;
        return Err(DecodeError { offset: at, problem: Problem::Unexpected { expected: "a digit", found } });
    }
    if digits > 1 && input[at] == b'0' {
        return Err(DecodeError { offset: blame, problem: Problem::LeadingZero });
    }
    let mut number: u64 = 0;
    for digit in &input[at..end] {
        let next = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0')));
        number = next.ok_or(DecodeError { offset: blame, problem: Problem::Overflow })?;
    }
    Ok((number, end))
}

/// Where the list or dictionary that begins `checked` ends.
pub(super) fn end_of(checked: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match *checked.get(at)? {
            b'l' | b'd' => (at, depth) = (at + 1, depth + 1),
            b'i' => at = scan_int(checked, at).ok()?.1,
            b'e' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            _ => at = scan_string(checked, at).ok()?.1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}
