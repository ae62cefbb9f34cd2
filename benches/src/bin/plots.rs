//! Draws `plots/*.svg` from the figures that the fleet bench and the simulation left in `results/*.csv`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

const SIZE: (f64, f64) = (720.0, 360.0);
/// Left, top, right, bottom.
const MARGINS: [f64; 4] = [70.0, 44.0, 20.0, 52.0];
const COLOURS: [&str; 3] = ["#0b6e99", "#8a8a8a", "#c2410c"];

type Line = (String, Vec<(f64, f64)>);

struct Chart {
    title: &'static str,
    across: &'static str,
    up: &'static str,
    lines: Vec<Line>,
}

fn main() {
    let turnover = lines("turnover.csv", |words| {
        let wait = words[1].parse().ok()?;
        Some((words[0].to_string(), wait))
    });
    let waits = turnover.into_iter().map(|(name, waits)| {
        // The file has the hundredths of each distribution, in order.
        (name, waits.into_iter().enumerate().map(|(percent, wait)| (wait, percent as f64)).collect())
    });
    Chart {
        title: "200 threads in 8 processes wait for one token",
        across: "milliseconds after the commit's reply",
        up: "% of the threads served",
        lines: waits.collect(),
    }
    .draw("turnover.svg");

    let commands = lines("simulation.csv", |words| {
        let point: (f64, f64) = (words[1].parse().ok()?, words[2].parse().ok()?);
        (words[0] == "60").then(|| ("10,000 processes, a token of 60 s".to_string(), point))
    });
    Chart {
        title: "What one turnover costs Redis (simulated)",
        across: "seconds",
        up: "commands a second, in tenths of a second",
        lines: commands,
    }
    .draw("load.svg");
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Reads a file of figures into lists by name, in the order in which the names come.
fn lines<T>(file: &str, read: impl Fn(&[&str]) -> Option<(String, T)>) -> Vec<(String, Vec<T>)> {
    let text = fs::read_to_string(folder("results").join(file)).expect("run the benches first");
    let mut lines: Vec<(String, Vec<T>)> = Vec::new();
    for row in text.lines().skip(1) {
        let Some((name, value)) = read(&row.split(',').collect::<Vec<_>>()) else { continue };
        match lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => lines.push((name, vec![value])),
        }
    }
    lines
}

impl Chart {
    fn draw(&self, file: &str) {
        fs::create_dir_all(folder("plots")).expect("a writable folder");
        fs::write(folder("plots").join(file), self.svg()).expect("a writable folder");
        println!("plots/{file}");
    }

    fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let (step_x, end_x) = scale(points().map(|point| point.0).fold(0.0, f64::max));
        let (step_y, end_y) = scale(points().map(|point| point.1).fold(0.0, f64::max));
        let [left, top, right, bottom] = MARGINS;
        let (width, height) = SIZE;
        let x = |value: f64| left + value / end_x * (width - left - right);
        let y = |value: f64| height - bottom - value / end_y * (height - top - bottom);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"#333\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"{left}\" y=\"24\" font-size=\"16\">{}</text>\n",
            self.title
        );
        let mut add = |text: String| svg.push_str(&(text + "\n"));
        for index in 0..=(end_y / step_y).round() as u32 {
            let value = f64::from(index) * step_y;
            let at = y(value);
            add(format!("<path d=\"M{left} {at:.1}H{}\" stroke=\"#e5e5e5\"/>", width - right));
            add(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", left - 6.0, at + 4.0));
        }
        for index in 0..=(end_x / step_x).round() as u32 {
            let value = f64::from(index) * step_x;
            let below = height - bottom + 16.0;
            add(format!("<text x=\"{:.1}\" y=\"{below}\" text-anchor=\"middle\">{value}</text>", x(value)));
        }
        let middle = (left + width - right) / 2.0;
        add(format!("<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", height - 14.0, self.across));
        let up = (top + height - bottom) / 2.0;
        add(format!("<text transform=\"translate(16 {up}) rotate(-90)\" text-anchor=\"middle\">{}</text>", self.up));
        for (index, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let mut path = String::new();
            for (index, (across, up)) in points.iter().enumerate() {
                let verb = if index == 0 { 'M' } else { 'L' };
                write!(path, "{verb}{:.1} {:.1}", x(*across), y(*up)).expect("memory");
            }
            add(format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"));
            let row = height - bottom - 12.0 - 18.0 * (self.lines.len() - 1 - index) as f64;
            add(format!("<path d=\"M{} {}h22\" stroke=\"{colour}\" stroke-width=\"3\"/>", width - 260.0, row - 4.0));
            add(format!("<text x=\"{}\" y=\"{row}\">{name}</text>", width - 230.0));
        }
        svg + "</svg>\n"
    }
}

/// Returns the distance of the marks on an axis and its end, for values up to `most`: 1, 2 or 5 times a power of ten.
fn scale(most: f64) -> (f64, f64) {
    let rough = most.max(1e-9) / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    (step, (most / step).ceil() * step)
}
