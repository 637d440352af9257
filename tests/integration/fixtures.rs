//! Folders written by earlier versions: every later one must read them as they were meant.
