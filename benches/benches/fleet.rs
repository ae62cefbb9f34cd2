//! The tail of hits while a refresh is running, and how fast many waiting threads are served.
fn main() {}
