//! Files that nobody sees, for what is not known to be shown before the run is over, or is not written from front to back.

use std::io::{self, BufWriter, Cursor, Read, Seek, SeekFrom, Write};

/// A file that is gone when it is dropped.
pub trait Scratch: Read + Write + Seek {}

impl<T: Read + Write + Seek> Scratch for T {}

/// One in memory.
pub fn in_memory() -> Box<dyn Scratch> {
    Box::new(Cursor::new(Vec::new()))
}

/// A scratch file that is being written.
pub(super) struct ScratchFile(BufWriter<Box<dyn Scratch>>);

impl ScratchFile {
    pub fn new(file: Box<dyn Scratch>) -> Self {
        Self(BufWriter::with_capacity(1 << 16, file))
    }

    /// Writes all of it to where it belongs.
    pub fn copy_to(mut self, out: &mut impl Write) -> io::Result<()> {
        self.0.rewind()?;
        io::copy(self.0.get_mut(), out)?;
        out.flush()
    }
}

impl Write for ScratchFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for ScratchFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}
