//! What the fuzz targets do with an input. The targets themselves are the lines that libFuzzer needs.

pub mod speaker;
pub mod tally;
pub mod wire;
