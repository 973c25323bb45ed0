//! Genes: the random words that an operation is made of.

/// Words of a gene.
pub const GENE_WORDS: usize = 16;

/// The random words of one operation; the first one chooses which.
pub type Gene = [u32; GENE_WORDS];

/// The words of a gene that are left; 0 when they are used up.
pub struct Words<'a>(std::slice::Iter<'a, u32>);

impl<'a> Words<'a> {
    /// All words of a gene.
    pub fn new(gene: &'a Gene) -> Self {
        Self(gene.iter())
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        self.0.next().copied().unwrap_or(0) % n.max(1)
    }

    /// A number in `1..=n`; 1 for the word 0.
    pub fn up_to(&mut self, n: u32) -> u32 {
        1 + self.below(n)
    }

    /// True for one word in `n`, never for the word 0.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == n - 1
    }

    /// One of the values; the first for the word 0.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }
}
