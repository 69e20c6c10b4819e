//! Cuts a pickle into its operations. Nothing is run here and nothing allocated but short decoded texts.
//!
//! Source of the operation codes: Python's `pickletools`, protocols 0 to 4.

use clip_core::Error;

/// Why an operation cannot be read. It is made without allocating, since a scan may meet it at every byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes end within the operation, at this byte.
    Cut(usize),
    /// An operation, and its place, that no weights need.
    Foreign(u8, usize),
    /// The line at this byte does not end.
    Endless(usize),
    /// The text or the line at this byte is not UTF-8.
    NotText(usize),
    /// A memo number that is no number.
    NoNumber,
    Protocol(u8),
}

impl Fault {
    pub(crate) fn error(self) -> Error {
        malformed(&match self {
            Self::Cut(end) => format!("it ends at byte {end}, within an operation"),
            Self::Foreign(code, at) => format!("operation {code:#04x} at byte {at} is not allowed"),
            Self::Endless(at) => format!("the line at byte {at} does not end"),
            Self::NotText(at) => format!("the text at byte {at} is not UTF-8"),
            Self::NoNumber => "a memo number is no number".to_owned(),
            Self::Protocol(version) => format!("protocol {version} is unknown"),
        })
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// One operation with its argument.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Op<'a> {
    Mark,
    Stop,
    Pop,
    PopMark,
    Dup,
    None,
    Bool(bool),
    Int(i64),
    /// Little-endian two's complement.
    Long(&'a [u8]),
    /// Floats carry nothing we need.
    Float,
    Str(&'a str),
    Bytes,
    PersId,
    BinPersId,
    Reduce,
    NewObj,
    NewObjEx,
    Obj,
    Build,
    Global(&'a str, &'a str),
    StackGlobal,
    Inst(&'a str, &'a str),
    EmptyDict,
    Dict,
    EmptyList,
    List,
    EmptySet,
    FrozenSet,
    AddItems,
    Append,
    Appends,
    SetItem,
    SetItems,
    EmptyTuple,
    Tuple,
    /// A tuple of the topmost 1, 2 or 3 values.
    TupleOf(usize),
    Get(u64),
    Put(u64),
    Memoize,
    /// A protocol or frame header: no effect.
    Nothing,
}

/// Reads operations one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next operation; the end of the bytes before STOP is an error.
    ///
    /// Behind an operation that cannot be read the next call goes on, if it is known where that one ends; else the bytes
    /// are at their end.
    pub(crate) fn next(&mut self) -> Result<Op<'a>> {
        let start = self.at;
        let [code] = self.array()?;
        Ok(match code {
            b'(' => Op::Mark,
            b'.' => Op::Stop,
            b'0' => Op::Pop,
            b'1' => Op::PopMark,
            b'2' => Op::Dup,
            b'N' => Op::None,
            0x88 => Op::Bool(true),
            0x89 => Op::Bool(false),
            b'I' | b'L' => self.decimal()?,
            b'J' => Op::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Op::Int(u8::from_le_bytes(self.array()?).into()),
            b'M' => Op::Int(u16::from_le_bytes(self.array()?).into()),
            0x8a => Op::Long(self.counted::<1>()?),
            0x8b => Op::Long(self.counted::<4>()?),
            b'F' => self.line().map(|_| Op::Float)?,
            b'G' => self.array::<8>().map(|_| Op::Float)?,
            b'S' => Op::Str(unquoted(self.line()?)),
            b'V' => Op::Str(self.line()?),
            b'T' => self.counted::<4>().map(text_or_bytes)?,
            b'U' => self.counted::<1>().map(text_or_bytes)?,
            b'X' => Op::Str(self.text::<4>()?),
            0x8c => Op::Str(self.text::<1>()?),
            0x8d => Op::Str(self.text::<8>()?),
            b'B' => self.counted::<4>().map(|_| Op::Bytes)?,
            b'C' => self.counted::<1>().map(|_| Op::Bytes)?,
            0x8e | 0x96 => self.counted::<8>().map(|_| Op::Bytes)?,
            b'P' => self.line().map(|_| Op::PersId)?,
            b'Q' => Op::BinPersId,
            b'R' => Op::Reduce,
            0x81 => Op::NewObj,
            0x92 => Op::NewObjEx,
            b'o' => Op::Obj,
            b'b' => Op::Build,
            b'c' => self.names().map(|(module, name)| Op::Global(module, name))?,
            0x93 => Op::StackGlobal,
            b'i' => self.names().map(|(module, name)| Op::Inst(module, name))?,
            b'}' => Op::EmptyDict,
            b'd' => Op::Dict,
            b']' => Op::EmptyList,
            b'l' => Op::List,
            0x8f => Op::EmptySet,
            0x91 => Op::FrozenSet,
            0x90 => Op::AddItems,
            b'a' => Op::Append,
            b'e' => Op::Appends,
            b's' => Op::SetItem,
            b'u' => Op::SetItems,
            b')' => Op::EmptyTuple,
            b't' => Op::Tuple,
            0x85 => Op::TupleOf(1),
            0x86 => Op::TupleOf(2),
            0x87 => Op::TupleOf(3),
            b'g' => Op::Get(self.number()?),
            b'h' => Op::Get(u8::from_le_bytes(self.array()?).into()),
            b'j' => Op::Get(u32::from_le_bytes(self.array()?).into()),
            b'p' => Op::Put(self.number()?),
            b'q' => Op::Put(u8::from_le_bytes(self.array()?).into()),
            b'r' => Op::Put(u32::from_le_bytes(self.array()?).into()),
            0x94 => Op::Memoize,
            0x80 => self.protocol()?,
            0x95 => self.array::<8>().map(|_| Op::Nothing)?,
            _ => {
                // Names by number in a registry, and buffers kept elsewhere, have known ends; behind other bytes there are
                // no operations.
                match code {
                    0x82 => self.take(1)?,
                    0x83 => self.take(2)?,
                    0x84 => self.take(4)?,
                    0x97 | 0x98 => &[],
                    _ => self.rest(),
                };
                return Err(Fault::Foreign(code, start));
            }
        })
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.bytes[self.at..].get(..length) {
            Some(taken) => {
                self.at += length;
                Ok(taken)
            }
            None => {
                self.rest();
                Err(Fault::Cut(self.at))
            }
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Bytes preceded by their length in `N` bytes.
    fn counted<const N: usize>(&mut self) -> Result<&'a [u8]> {
        let mut length = [0; 8];
        length[..N].copy_from_slice(self.take(N)?);
        // A length beyond what can be addressed is beyond the bytes too.
        self.take(usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX))
    }

    fn text<const N: usize>(&mut self) -> Result<&'a str> {
        let at = self.at;
        decoded(self.counted::<N>()?, at)
    }

    /// Bytes up to a line feed, which is taken too.
    fn line_bytes(&mut self) -> Result<&'a [u8]> {
        let at = self.at;
        let rest = self.rest();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(Fault::Endless(at))?;
        self.at = at + length + 1;
        Ok(&rest[..length])
    }

    fn line(&mut self) -> Result<&'a str> {
        let at = self.at;
        decoded(self.line_bytes()?, at)
    }

    /// The two lines of a global. Both are taken before either is understood.
    fn names(&mut self) -> Result<(&'a str, &'a str)> {
        let at = self.at;
        let (module, name) = (self.line_bytes()?, self.line_bytes()?);
        Ok((decoded(module, at)?, decoded(name, at)?))
    }

    fn number(&mut self) -> Result<u64> {
        self.line()?.parse().map_err(|_| Fault::NoNumber)
    }

    /// `I` and `L`: digits; `I00` and `I01` are booleans; a number beyond 64 bits is none that we need.
    fn decimal(&mut self) -> Result<Op<'a>> {
        let line = self.line()?;
        let digits = line.strip_suffix('L').unwrap_or(line);
        Ok(match digits {
            "00" => Op::Bool(false),
            "01" => Op::Bool(true),
            _ => digits.parse().map_or(Op::Float, Op::Int),
        })
    }

    fn protocol(&mut self) -> Result<Op<'a>> {
        let [version] = self.array()?;
        if version > 5 {
            return Err(Fault::Protocol(version));
        }
        Ok(Op::Nothing)
    }
}

fn decoded(bytes: &[u8], at: usize) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Fault::NotText(at))
}

/// Python 2 texts: bytes that are mostly ASCII.
fn text_or_bytes(bytes: &[u8]) -> Op<'_> {
    std::str::from_utf8(bytes).map_or(Op::Bytes, Op::Str)
}

fn unquoted(line: &str) -> &str {
    let quoted = |mark: char| line.strip_prefix(mark)?.strip_suffix(mark);
    quoted('\'').or_else(|| quoted('"')).unwrap_or(line)
}

pub(crate) fn malformed(what: &str) -> Error {
    Error::invalid(format!("the pickle is damaged: {what}")).remedy("copy or download the file again")
}
