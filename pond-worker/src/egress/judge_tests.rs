//! What the judge decides and says.

use super::*;
