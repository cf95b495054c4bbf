//! Programs that embed or call Pond; see `examples/`.
