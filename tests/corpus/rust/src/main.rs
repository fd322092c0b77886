//! Adds numbers.

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["--check"] {
        assert_eq!(itoa::Buffer::new().format(-12), "-12");
        return;
    }
    let sum: i64 = words.iter().map(|word| word.parse::<i64>().expect("a number")).sum();
    println!("sum {}", itoa::Buffer::new().format(sum));
}
