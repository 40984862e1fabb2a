//! A map that remembers what was used lately.
//!
//! In: entries. Out: those of the last so many uses, at least. Never holds more than twice as many.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// The map: two generations, of which the older goes when the newer is full.
#[derive(Debug)]
pub struct Bounded<K, V> {
    recent: HashMap<K, V>,
    older: HashMap<K, V>,
    most: usize,
}

impl<K: Eq + Hash, V: Clone> Bounded<K, V> {
    /// One that remembers the last `most` entries.
    pub fn new(most: usize) -> Bounded<K, V> {
        Bounded { recent: HashMap::new(), older: HashMap::new(), most }
    }

    /// An entry, which counts as used.
    pub fn get<Q: Eq + Hash + ToOwned<Owned = K> + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some(value) = self.recent.get(key) {
            return Some(value.clone());
        }
        let value = self.older.remove(key)?;
        self.put(key.to_owned(), value.clone());
        Some(value)
    }

    /// Enters one.
    pub fn put(&mut self, key: K, value: V) {
        if self.recent.len() >= self.most {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut map: Bounded<String, u32> = Bounded::new(10);
        map.put("kept".into(), 0);
        for n in 0..1_000 {
            map.put(n.to_string(), n);
            assert_eq!(map.get("kept"), Some(0));
        }
        assert_eq!((map.get("999"), map.get("3")), (Some(999), None));
        assert!(map.recent.len() + map.older.len() <= 20);
    }
}
