//! Columns of words that say what a row belongs to: each word is kept once, a row has its number.

use std::collections::HashMap;

/// A column of words.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The number of each row's word.
    pub rows: Vec<u32>,
    /// Words, in the order in which they came first.
    pub words: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Keys {
    /// Adds a row.
    pub fn push(&mut self, word: &str) {
        // Most rows have the word of the row before.
        if let Some(last) = self.rows.last()
            && self.words[*last as usize] == word
        {
            self.rows.push(*last);
            return;
        }
        let number = self.number(word);
        self.rows.push(number);
    }

    /// Adds the rows of another column.
    pub fn append(&mut self, other: &Self) {
        let mut numbers = Vec::with_capacity(other.words.len());
        for word in &other.words {
            numbers.push(self.number(word));
        }
        self.rows
            .extend(other.rows.iter().map(|number| numbers[*number as usize]));
    }

    fn number(&mut self, word: &str) -> u32 {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        // There are no more words than rows, and no more rows than memory holds.
        let number = self.words.len() as u32;
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        number
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.words.clear();
        self.numbers.clear();
    }

    /// The rows of each word, in their order.
    pub fn by_word(&self) -> Vec<Vec<usize>> {
        let mut rows = vec![Vec::new(); self.words.len()];
        for (row, number) in self.rows.iter().enumerate() {
            rows[*number as usize].push(row);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbered_in_the_order_in_which_they_come() {
        let (mut all, mut more) = (Keys::default(), Keys::default());
        for word in ["b", "b", "a"] {
            all.push(word);
        }
        for word in ["c", "a", "c"] {
            more.push(word);
        }
        all.append(&more);
        assert_eq!(all.words, ["b", "a", "c"]);
        assert_eq!(all.by_word(), [vec![0, 1], vec![2, 4], vec![3, 5]]);
        all.clear();
        all.push("a");
        assert_eq!((all.rows, all.words), (vec![0], vec!["a".to_owned()]));
    }
}
