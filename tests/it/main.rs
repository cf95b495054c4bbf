//! Whole-system stories, one file per domain.

mod runs;
