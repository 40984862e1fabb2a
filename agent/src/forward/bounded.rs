//! A map that remembers what was used lately.
//!
//! In: entries, each with its size. Out: those of the last so many uses, or bytes, whichever is less, at least. Never holds
//! more than twice as many of either.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// The map: two generations, of which the older goes when the newer is full.
#[derive(Debug)]
pub struct Bounded<K, V> {
    recent: HashMap<K, (V, usize)>,
    older: HashMap<K, (V, usize)>,
    most: usize,
    most_bytes: usize,
    /// Of `recent`.
    bytes: usize,
}

impl<K: Eq + Hash, V: Clone> Bounded<K, V> {
    /// One that remembers the last `most` entries, as far as they are of `most_bytes` bytes.
    pub fn new(most: usize, most_bytes: usize) -> Bounded<K, V> {
        Bounded { recent: HashMap::new(), older: HashMap::new(), most, most_bytes, bytes: 0 }
    }

    /// An entry, which counts as used.
    pub fn get<Q: Eq + Hash + ToOwned<Owned = K> + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some((value, _)) = self.recent.get(key) {
            return Some(value.clone());
        }
        let (value, bytes) = self.older.remove(key)?;
        self.put(key.to_owned(), value.clone(), bytes);
        Some(value)
    }

    /// Enters one, of so many bytes with its key. One that is larger than all may be is not entered.
    pub fn put(&mut self, key: K, value: V, bytes: usize) {
        if bytes > self.most_bytes {
            return;
        }
        if let Some((_, before)) = self.recent.remove(&key) {
            self.bytes -= before;
        }
        if self.recent.len() >= self.most || self.bytes + bytes > self.most_bytes {
            self.older = std::mem::take(&mut self.recent);
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.recent.insert(key, (value, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut map: Bounded<String, u32> = Bounded::new(10, 1_000);
        map.put("kept".into(), 0, 1);
        for n in 0..1_000 {
            map.put(n.to_string(), n, 1);
            assert_eq!(map.get("kept"), Some(0));
        }
        assert_eq!((map.get("999"), map.get("3")), (Some(999), None));
        assert!(map.recent.len() + map.older.len() <= 20);
    }

    #[test]
    fn large_entries_are_bounded_by_their_bytes() {
        let mut map: Bounded<String, u32> = Bounded::new(1_000, 100);
        for n in 0..50 {
            map.put(n.to_string(), n, 30);
            // The same once more takes no more room.
            map.put(n.to_string(), n, 30);
            let held: usize =
                [&map.recent, &map.older].iter().flat_map(|part| part.values()).map(|(_, b)| b).sum();
            assert!(held <= 200 && map.bytes <= 100, "{held} bytes");
            assert_eq!(map.get(&n.to_string()), Some(n));
        }
        assert_eq!(map.get("0"), None);
        map.put("larger than all".into(), 0, 101);
        assert_eq!(map.get("larger than all"), None);
    }
}
