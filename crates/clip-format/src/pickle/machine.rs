//! Runs a pickle into an arena of plain values. No Python name is called: the few that are allowed have one fixed
//! meaning each, and everything else of interest is a dictionary, a tuple or a number.
//!
//! Memory is bounded: every operation makes at most one value, values refer to each other by number, and their count
//! is limited. Nothing here recurses, so depth costs nothing.

use std::collections::HashMap;

use clip_core::{Error, Result};

use super::global::{Global, allowed};
use super::op::{Fault, Lexer, Op, malformed};
use crate::tensor::Dtype;

/// A checkpoint with optimiser state has about a hundred thousand.
const MOST_VALUES: usize = 1 << 20;

/// The number of a value in its [`Arena`].
pub(crate) type Index = u32;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    None,
    Int(i64),
    Long(&'a [u8]),
    Str(&'a str),
    Tuple(Vec<Index>),
    List(Vec<Index>),
    Dict(Vec<(Index, Index)>),
    Global(Global),
    Storage(Storage<'a>),
    Tensor(Tensor),
    /// An object of a traced model, and the value that holds its attributes.
    Module(Option<Index>),
    /// Anything that has no meaning for weights.
    Inert,
}

/// A storage: elements in a row, kept elsewhere in the file under a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Storage<'a> {
    pub(crate) key: &'a str,
    pub(crate) dtype: Option<Dtype>,
    /// How many elements it holds.
    pub(crate) elements: usize,
    /// Where a view of it begins (files of PyTorch before 0.4).
    pub(crate) view_offset: usize,
}

/// A view of a storage; sizes and strides are tuples of the arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) storage: Index,
    pub(crate) offset: Index,
    pub(crate) sizes: Index,
    pub(crate) strides: Index,
}

/// The values of one pickle.
#[derive(Debug, Default)]
pub(crate) struct Arena<'a> {
    values: Vec<Value<'a>>,
}

impl<'a> Arena<'a> {
    pub(crate) fn get(&self, index: Index) -> &Value<'a> {
        &self.values[index as usize]
    }

    pub(crate) fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// A non-negative integer.
    pub(crate) fn size(&self, index: Index) -> Option<usize> {
        if let Value::Int(value) = self.get(index) {
            usize::try_from(*value).ok()
        } else {
            None
        }
    }

    /// A tuple or list of at most `most` non-negative integers.
    pub(crate) fn sizes(&self, index: Index, most: usize) -> Option<Vec<usize>> {
        self.sequence(index)
            .filter(|items| items.len() <= most)?
            .iter()
            .map(|&item| self.size(item))
            .collect()
    }

    fn sequence(&self, index: Index) -> Option<&[Index]> {
        match self.get(index) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    fn text(&self, index: Index) -> Option<&'a str> {
        if let Value::Str(text) = self.get(index) {
            Some(text)
        } else {
            None
        }
    }
}

/// Runs the pickle at the start of `bytes`; returns its values, the result, and how many bytes it took.
pub(crate) fn run(bytes: &[u8]) -> Result<(Arena<'_>, Index, usize)> {
    let mut machine = Machine {
        arena: Arena::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
    };
    let mut lexer = Lexer::new(bytes);
    loop {
        match lexer.next().map_err(Fault::error)? {
            Op::Stop => {
                let result = machine.pop()?;
                return Ok((machine.arena, result, lexer.at()));
            }
            op => machine.step(op)?,
        }
    }
}

struct Machine<'a> {
    arena: Arena<'a>,
    stack: Vec<Index>,
    /// Heights of the stack at each MARK.
    marks: Vec<usize>,
    memo: HashMap<u64, Index>,
    /// Items copied from one value into another, which count as values.
    copied: usize,
}

impl<'a> Machine<'a> {
    fn step(&mut self, op: Op<'a>) -> Result<()> {
        match op {
            Op::Nothing => Ok(()),
            Op::Mark => {
                self.marks.push(self.stack.len());
                limit(self.marks.len())
            }
            Op::Pop => self.pop_any(),
            Op::PopMark => self.items().map(drop),
            Op::Dup => self.top().map(|top| self.stack.push(top)),
            Op::None => self.push(Value::None),
            Op::Bool(_) | Op::Float | Op::Bytes | Op::EmptySet => self.push(Value::Inert),
            Op::Int(value) => self.push(Value::Int(value)),
            Op::Long(bytes) => self.push(long(bytes)),
            Op::Str(text) => self.push(Value::Str(text)),
            Op::EmptyDict => self.push(Value::Dict(Vec::new())),
            Op::EmptyList => self.push(Value::List(Vec::new())),
            Op::EmptyTuple => self.push(Value::Tuple(Vec::new())),
            Op::Tuple => self.items().and_then(|items| self.push(Value::Tuple(items))),
            Op::List => self.items().and_then(|items| self.push(Value::List(items))),
            Op::Dict => self
                .items()
                .and_then(pairs)
                .and_then(|pairs| self.push(Value::Dict(pairs))),
            Op::FrozenSet => self.items().and_then(|_| self.push(Value::Inert)),
            Op::TupleOf(count) => self.last(count).and_then(|items| self.push(Value::Tuple(items))),
            Op::Append => self.last(1).and_then(|items| self.extend_list(items)),
            Op::Appends => self.items().and_then(|items| self.extend_list(items)),
            Op::AddItems => self.items().and_then(|_| self.top().map(drop)),
            Op::SetItem => self.last(2).and_then(|items| self.extend_dict(items)),
            Op::SetItems => self.items().and_then(|items| self.extend_dict(items)),
            Op::Get(key) => self.recall(key),
            Op::Put(key) => self.remember(key),
            Op::Memoize => self.remember(self.memo.len() as u64),
            Op::Global(module, name) => allowed(module, name).and_then(|global| self.push(Value::Global(global))),
            Op::StackGlobal => self.stack_global(),
            Op::Inst(module, name) => self.inst(module, name),
            Op::Obj => self.items().and_then(|items| self.object(items.first().copied())),
            Op::NewObj => self.last(2).and_then(|items| self.object(items.first().copied())),
            Op::NewObjEx => self.last(3).and_then(|items| self.object(items.first().copied())),
            Op::Reduce => self.reduce(),
            Op::Build => self.build(),
            Op::BinPersId => self.persistent(),
            Op::PersId => Err(malformed("it refers to storages in a way PyTorch does not use")),
            Op::Stop => Err(malformed("a value is missing at its end")),
        }
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        limit(self.arena.values.len() + self.copied)?;
        self.stack.push(self.arena.values.len() as Index);
        self.arena.values.push(value);
        Ok(())
    }

    /// The lowest height the stack may fall to.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Index> {
        let above = self.stack.len() > self.floor();
        above
            .then(|| self.stack.pop())
            .flatten()
            .ok_or_else(|| malformed("its stack runs empty"))
    }

    fn pop_any(&mut self) -> Result<()> {
        if self.stack.len() == self.floor() && self.marks.pop().is_some() {
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn top(&self) -> Result<Index> {
        let above = self.stack.len() > self.floor();
        above
            .then(|| self.stack.last().copied())
            .flatten()
            .ok_or_else(|| malformed("its stack runs empty"))
    }

    /// Everything above the last mark.
    fn items(&mut self) -> Result<Vec<Index>> {
        let mark = self.marks.pop().ok_or_else(|| malformed("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn last(&mut self, count: usize) -> Result<Vec<Index>> {
        let from = self.stack.len().checked_sub(count).filter(|&from| from >= self.floor());
        Ok(self
            .stack
            .split_off(from.ok_or_else(|| malformed("its stack runs empty"))?))
    }

    fn extend_list(&mut self, items: Vec<Index>) -> Result<()> {
        let top = self.top()? as usize;
        match &mut self.arena.values[top] {
            Value::List(list) => list.extend(items),
            Value::Inert => {}
            _ => return Err(malformed("it appends to what is no list")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<Index>) -> Result<()> {
        let top = self.top()? as usize;
        match &mut self.arena.values[top] {
            Value::Dict(dict) => dict.extend(pairs(items)?),
            Value::Inert => {}
            _ => return Err(malformed("it sets items of what is no dictionary")),
        }
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        limit(self.memo.len())
    }

    fn recall(&mut self, key: u64) -> Result<()> {
        let index = self
            .memo
            .get(&key)
            .ok_or_else(|| malformed("it recalls what it never stored"))?;
        self.stack.push(*index);
        // A recalled value costs no new one, yet the stack must not outgrow the limit either.
        limit(self.stack.len())
    }

    fn stack_global(&mut self) -> Result<()> {
        let names = self.last(2)?;
        let [Some(module), Some(name)] = [self.arena.text(names[0]), self.arena.text(names[1])] else {
            return Err(malformed("a global has no name"));
        };
        allowed(module, name).and_then(|global| self.push(Value::Global(global)))
    }

    fn inst(&mut self, module: &str, name: &str) -> Result<()> {
        let global = allowed(module, name)?;
        self.items()?;
        self.push(empty(global))
    }

    /// State of an object. A traced model's are its attributes; no weights hang at any other's, an OrderedDict's
    /// `_metadata` say.
    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let object = self.top()? as usize;
        if let Value::Module(attributes) = &mut self.arena.values[object] {
            *attributes = Some(state);
        }
        Ok(())
    }

    fn object(&mut self, class: Option<Index>) -> Result<()> {
        match class.map(|class| self.arena.get(class)) {
            Some(&Value::Global(global)) => self.push(empty(global)),
            _ => Err(malformed("an object has no class")),
        }
    }

    fn reduce(&mut self) -> Result<()> {
        let [callee, arguments] = [self.last(2)?].map(|pair| [pair[0], pair[1]])[0];
        let Value::Global(global) = *self.arena.get(callee) else {
            return Err(malformed("it calls what is no name"));
        };
        let Value::Tuple(arguments) = self.arena.get(arguments) else {
            return Err(malformed("a call has no arguments"));
        };
        match (global, arguments.as_slice()) {
            (Global::Dict, arguments) => {
                let pairs = arguments.first().map(|&list| self.pairs_of(list)).unwrap_or_default();
                self.copied += pairs.len();
                self.push(Value::Dict(pairs))
            }
            (Global::Tensor, &[storage, offset, sizes, strides, ..]) => self.push(Value::Tensor(Tensor {
                storage,
                offset,
                sizes,
                strides,
            })),
            (Global::Parameter | Global::Size, &[value, ..]) => {
                self.stack.push(value);
                Ok(())
            }
            (Global::Tensor | Global::Parameter | Global::Size, _) => Err(malformed("a tensor lacks arguments")),
            (Global::Storage(_) | Global::Module | Global::Inert, _) => self.push(empty(global)),
        }
    }

    /// `OrderedDict([(key, value), …])`, as Python 2 wrote it; the factory of a defaultdict gives none.
    fn pairs_of(&self, list: Index) -> Vec<(Index, Index)> {
        let items = self.arena.sequence(list).unwrap_or_default();
        let pair = |&item: &Index| match self.arena.sequence(item) {
            Some(&[key, value]) => Some((key, value)),
            _ => None,
        };
        items.iter().filter_map(pair).collect()
    }

    /// `("storage", type, key, location, elements[, view])`.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = self
            .storage(id)
            .ok_or_else(|| malformed("a storage is not described as PyTorch does"))?;
        self.push(Value::Storage(storage))
    }

    fn storage(&self, id: Index) -> Option<Storage<'a>> {
        let &[kind, class, key, _location, elements, ref view @ ..] = self.arena.sequence(id)? else {
            return None;
        };
        let Value::Global(Global::Storage(dtype)) = *self.arena.get(class) else {
            return None;
        };
        if self.arena.text(kind) != Some("storage") {
            return None;
        }
        let view_offset = match view.first().map(|&view| (view, self.arena.get(view))) {
            None | Some((_, Value::None)) => 0,
            Some((view, _)) => self.arena.size(*self.arena.sequence(view)?.get(1)?)?,
        };
        Some(Storage {
            key: self.arena.text(key)?,
            dtype,
            elements: self.arena.size(elements)?,
            view_offset,
        })
    }
}

/// A new object of a class.
fn empty<'a>(class: Global) -> Value<'a> {
    match class {
        Global::Dict => Value::Dict(Vec::new()),
        Global::Module => Value::Module(None),
        _ => Value::Inert,
    }
}

fn limit(values: usize) -> Result<()> {
    if values < MOST_VALUES {
        return Ok(());
    }
    Err(Error::exhausted(format!(
        "the pickle holds more than {MOST_VALUES} values, which no file of weights does"
    )))
}

fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

fn pairs(items: Vec<Index>) -> Result<Vec<(Index, Index)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(malformed("a key has no value"));
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
