//! Holds a decompressing reader to a budget. Archive headers may ask their reader to hold any amount in memory
//! (a pax header of gigabytes of zeros is a few kilobytes compressed); with a budget they cannot.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// For the headers in front of one member.
pub(crate) const HEADERS: u64 = 1 << 20;

/// Shared by the reader and whoever fills the budget.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget {
    left: Rc<Cell<u64>>,
    total: Rc<Cell<u64>>,
}

impl Budget {
    /// So many bytes may be read from now on.
    pub(crate) fn allow(&self, bytes: u64) {
        self.left.set(bytes);
    }

    /// Bytes read so far, all together.
    pub(crate) fn total(&self) -> u64 {
        self.total.get()
    }
}

/// A reader that ends in an error when its budget is used up.
pub(crate) struct Meter<R> {
    inner: R,
    budget: Budget,
}

impl<R> Meter<R> {
    /// A reader and its budget, which allows everything until it is set.
    pub(crate) fn new(inner: R) -> (Self, Budget) {
        let budget = Budget::default();
        budget.allow(u64::MAX);
        (Self { inner, budget: budget.clone() }, budget)
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.left.get();
        if left == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "headers of a member are too long"));
        }
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let length = self.inner.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        self.budget.left.set(left - length as u64);
        self.budget.total.set(self.budget.total.get() + length as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_at_the_budget() {
        let (mut meter, budget) = Meter::new(io::repeat(0));
        budget.allow(10);
        let mut all = Vec::new();
        assert!(meter.read_to_end(&mut all).is_err());
        assert_eq!((all.len(), budget.total()), (10, 10));
    }
}
