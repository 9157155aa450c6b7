//! Isolation trees: random splits that set a row apart after few of them if it is unlike the others (Liu, Ting and Zhou,
//! "Isolation Forest", ICDM 2008). A forest is four arrays, which is how it travels in a model file.

use rayon::prelude::*;

use super::gram::RowSource;
use contract::Random;

/// What `features` holds for a leaf.
const LEAF: i64 = -1;

/// How a forest is grown.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    pub trees: usize,
    /// Rows that a tree is grown from.
    pub samples: usize,
    /// Columns that a tree may split by.
    pub features: usize,
}

impl Growth {
    /// Nodes that a tree never exceeds: its leaves hold a row each at most.
    pub fn nodes(&self) -> usize {
        2 * self.samples.max(1) - 1
    }
}

/// Trees side by side, each `nodes` long; the children of a node lie next to each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    pub nodes: usize,
    /// The column that a node splits by, or -1.
    pub features: Vec<i64>,
    /// Rows below it go to the first child.
    pub thresholds: Vec<f32>,
    /// The first child of an inner node, counted from the tree's first node.
    pub children: Vec<i64>,
    /// Of leaves: their depth, and what would be added if their rows were isolated, too.
    pub lengths: Vec<f32>,
}

impl Forest {
    /// Every tree has its own stream of random numbers, seeded from `random` in the order of the trees.
    pub fn grow(source: &impl RowSource, growth: Growth, random: &mut Random) -> Self {
        let mut streams = vec![[0; 4]; growth.trees];
        for word in streams.as_flattened_mut() {
            *word = random.next_u64();
        }
        let trees: Vec<Tree> = streams
            .into_par_iter()
            .map(|state| Tree::grow(source, growth, &mut Random::from_state(state)))
            .collect();
        let nodes = growth.nodes();
        let mut forest = Self::empty(growth.trees, nodes);
        for (index, tree) in trees.iter().enumerate() {
            for (place, node) in tree.0.iter().enumerate() {
                let place = index * nodes + place;
                forest.features[place] = node.feature;
                forest.thresholds[place] = node.threshold;
                forest.children[place] = node.child;
                forest.lengths[place] = node.length;
            }
        }
        forest
    }

    /// Trees of a single leaf.
    pub(crate) fn empty(trees: usize, nodes: usize) -> Self {
        let count = trees * nodes;
        Self {
            nodes,
            features: vec![LEAF; count],
            thresholds: vec![0.0; count],
            children: vec![0; count],
            lengths: vec![0.0; count],
        }
    }

    /// Whether every path stays inside its tree, ends, and asks for columns below `width`.
    pub fn is_sound(&self, width: usize) -> bool {
        let (count, nodes) = (self.features.len(), self.nodes as i64);
        if nodes == 0
            || !count.is_multiple_of(self.nodes)
            || [
                self.thresholds.len(),
                self.children.len(),
                self.lengths.len(),
            ] != [count; 3]
        {
            return false;
        }
        for (place, (feature, child)) in self.features.iter().zip(&self.children).enumerate() {
            // Children behind their node: so no path goes in a circle.
            let own = (place % self.nodes) as i64;
            let inner = (0..width as i64).contains(feature) && *child > own && *child + 1 < nodes;
            if *feature != LEAF && !inner {
                return false;
            }
        }
        true
    }

    /// 2^(-E[h(row)] / c(samples)): near 1 for rows that few splits set apart, about 0.5 and below for the rest.
    pub fn score(&self, row: &[f32], samples: usize) -> f64 {
        let trees = self.features.len() / self.nodes;
        let mut total = 0.0;
        for tree in 0..trees {
            total += f64::from(self.path_length(tree, row));
        }
        (-total / trees as f64 / average_path_length(samples).max(f64::MIN_POSITIVE)).exp2()
    }

    fn path_length(&self, tree: usize, row: &[f32]) -> f32 {
        let first = tree * self.nodes;
        let mut place = first;
        loop {
            let feature = self.features[place];
            if feature == LEAF {
                return self.lengths[place];
            }
            let right = usize::from(row[feature as usize] >= self.thresholds[place]);
            place = first + self.children[place] as usize + right;
        }
    }
}

/// c(n): the mean length of an unsuccessful search in a binary search tree of n rows (equation 1).
pub(crate) fn average_path_length(rows: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match rows {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let before = (rows - 1) as f64;
            2.0 * (libm::log(before) + EULER) - 2.0 * before / rows as f64
        }
    }
}

#[derive(Clone, Copy)]
struct Node {
    feature: i64,
    threshold: f32,
    child: i64,
    length: f32,
}

impl Node {
    fn leaf(depth: usize, rows: usize) -> Self {
        Self {
            feature: LEAF,
            threshold: 0.0,
            child: 0,
            length: (depth as f64 + average_path_length(rows)) as f32,
        }
    }
}

struct Tree(Vec<Node>);

impl Tree {
    fn grow(source: &impl RowSource, growth: Growth, random: &mut Random) -> Self {
        let samples = growth.samples.min(source.rows());
        let rows = draw_without_return(source.rows(), samples, random);
        let features = growth.features.min(source.width());
        let columns = draw_without_return(source.width(), features, random);
        // As deep as a balanced tree would be: below that, nothing is an anomaly any more.
        let most = (samples.max(2) as f64).log2().ceil() as usize;
        let mut tree = Self(vec![Node::leaf(0, samples)]);
        let mut open = vec![(0, 0, rows)];
        while let Some((place, depth, rows)) = open.pop() {
            let mut split = None;
            if depth < most && rows.len() > 1 {
                split = choose_split(source, &rows, &columns, random);
            }
            let Some((feature, threshold)) = split else {
                tree.0[place] = Node::leaf(depth, rows.len());
                continue;
            };
            let child = tree.0.len();
            tree.0[place] = Node {
                feature: feature as i64,
                threshold,
                child: child as i64,
                length: 0.0,
            };
            tree.0.extend([Node::leaf(0, 0); 2]);
            let (right, left) = rows
                .into_iter()
                .partition(|row| source.row(*row)[feature] >= threshold);
            // The left side is grown first: the order decides which random numbers a node gets.
            open.push((child + 1, depth + 1, right));
            open.push((child, depth + 1, left));
        }
        tree
    }
}

/// A random column that varies among the rows, and a random value inside its range. `None` if no column varies.
fn choose_split(
    source: &impl RowSource,
    rows: &[usize],
    columns: &[usize],
    random: &mut Random,
) -> Option<(usize, f32)> {
    let mut left = columns.to_vec();
    while !left.is_empty() {
        let column = left.swap_remove(random.below(left.len() as u64) as usize);
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for row in rows {
            let value = source.row(*row)[column];
            (low, high) = (low.min(value), high.max(value));
        }
        if low < high {
            let drawn = random.range(f64::from(low), f64::from(high)) as f32;
            // Both sides get a row: the smallest stays below the threshold, the largest does not.
            return Some((column, if drawn > low { drawn.min(high) } else { high }));
        }
    }
    None
}

/// `count` different numbers below `bound`, in random order (Floyd's method for few of many).
fn draw_without_return(bound: usize, count: usize, random: &mut Random) -> Vec<usize> {
    if count * 4 >= bound {
        let mut all: Vec<usize> = (0..bound).collect();
        random.shuffle(&mut all);
        all.truncate(count);
        return all;
    }
    let mut drawn = Vec::with_capacity(count);
    for last in bound - count..bound {
        let candidate = random.below(last as u64 + 1) as usize;
        drawn.push(if drawn.contains(&candidate) {
            last
        } else {
            candidate
        });
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::gram::Slices;

    fn normal(count: usize, width: usize) -> Vec<f32> {
        let mut random = Random::new(8, "normal");
        (0..count * width).map(|_| random.normal() as f32).collect()
    }

    fn forest(values: &[f32], width: usize, growth: Growth) -> Forest {
        let source = Slices::new(
            values,
            (0..values.len() / width).map(|row| row * width).collect(),
            width,
        );
        Forest::grow(&source, growth, &mut Random::new(3, "forest"))
    }

    const GROWTH: Growth = Growth {
        trees: 100,
        samples: 256,
        features: 2,
    };

    #[test]
    fn path_lengths_follow_the_formula() {
        assert_eq!([0, 1, 2].map(average_path_length), [0.0, 0.0, 1.0]);
        // 2 (H(255)) - 2 * 255 / 256 with the harmonic number by its definition.
        let harmonic: f64 = (1..256).map(|index| 1.0 / f64::from(index)).sum();
        assert!((average_path_length(256) - (2.0 * harmonic - 510.0 / 256.0)).abs() < 0.01);
    }

    #[test]
    fn far_rows_score_high_and_common_rows_low() {
        let values = normal(2000, 2);
        let forest = forest(&values, 2, GROWTH);
        assert!(forest.is_sound(2) && !forest.is_sound(1));
        let (far, near) = (
            forest.score(&[6.0, -6.0], 256),
            forest.score(&[0.0, 0.1], 256),
        );
        assert!(far > 0.7 && near < 0.45, "{far} {near}");
        let mean = values
            .chunks_exact(2)
            .map(|row| forest.score(row, 256))
            .sum::<f64>()
            / 2000.0;
        assert!((mean - 0.47).abs() < 0.05, "{mean}");
    }

    #[test]
    fn two_different_rows_are_told_apart_by_one_split() {
        let growth = Growth {
            trees: 5,
            samples: 2,
            features: 1,
        };
        let forest = forest(&[0.0, 1.0], 1, growth);
        assert_eq!(forest.nodes, 3);
        assert!(
            forest
                .features
                .chunks(3)
                .all(|tree| tree == [0, LEAF, LEAF])
        );
        assert!(forest.lengths.chunks(3).all(|tree| tree[1..] == [1.0, 1.0]));
        assert_eq!(forest.score(&[0.0], 2), 0.5);
        let constant = Growth {
            trees: 2,
            samples: 4,
            features: 1,
        };
        let source = Slices::new(&[7.0; 4], vec![0, 1, 2, 3], 1);
        let forest = Forest::grow(&source, constant, &mut Random::new(1, "forest"));
        assert!(forest.features.iter().all(|feature| *feature == LEAF));
    }

    #[test]
    fn threads_change_no_bit_and_draws_are_different_numbers() {
        let values = normal(500, 5);
        let growth = Growth {
            trees: 20,
            samples: 64,
            features: 3,
        };
        let bits = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| forest(&values, 5, growth))
        };
        assert_eq!(bits(1), bits(3));
        for (bound, count) in [(10, 10), (1000, 20), (7, 1), (3, 0)] {
            let mut drawn = draw_without_return(bound, count, &mut Random::new(2, "draw"));
            drawn.sort_unstable();
            drawn.dedup();
            assert!(drawn.len() == count && drawn.iter().all(|number| *number < bound));
        }
    }
}
