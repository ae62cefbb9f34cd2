//! A process of a fleet that takes orders in lines and answers each with a line. It is built with the version of the library
//! before this one.

mod fetch;

use std::io::BufRead;

fn main() {
    let mut args = std::env::args().skip(1);
    let (redis, log) = (args.next().expect("a URL"), args.next().expect("a file"));
    let manager = fetch::manager(&redis, log.into(), "old");
    let mut guard = None;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "get" => match manager.get() {
                Ok(token) => println!("> {}", token.secret()),
                Err(error) => println!("> error {:?}", error.kind()),
            },
            "invalidate" => {
                manager.get().iter().for_each(|token| manager.invalidate(token));
                println!("> invalidated");
            }
            "fresh" => {
                guard = manager.keep_fresh().ok();
                println!("> fresh {}", guard.is_some());
            }
            _ => println!("> what?"),
        }
    }
    drop(guard);
}
