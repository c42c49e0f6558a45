//! Kubernetes quantities (`64Mi`, `250m`, `1e3`) as numbers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The number that `quantity` stands for, or none if it is no quantity.
pub fn parse(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.trim();
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok()?;
    Some(number * scale(&text[digits.len()..])?)
}

fn scale(suffix: &str) -> Option<f64> {
    let (base, power) = match suffix {
        "n" => (1000f64, -3),
        "u" => (1000f64, -2),
        "m" => (1000f64, -1),
        "k" => (1000f64, 1),
        "M" => (1000f64, 2),
        "G" => (1000f64, 3),
        "T" => (1000f64, 4),
        "P" => (1000f64, 5),
        "E" => (1000f64, 6),
        "Ki" => (1024f64, 1),
        "Mi" => (1024f64, 2),
        "Gi" => (1024f64, 3),
        "Ti" => (1024f64, 4),
        "Pi" => (1024f64, 5),
        "Ei" => (1024f64, 6),
        _ => return None,
    };
    Some(base.powi(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_scale() {
        for (text, expected) in [
            ("5", Some(5.0)),
            ("250m", Some(0.25)),
            ("64Mi", Some(67_108_864.0)),
            ("1.5Gi", Some(1_610_612_736.0)),
            ("2k", Some(2000.0)),
            ("1e3", Some(1000.0)),
            ("2E", Some(2e18)),
            ("lots", None),
            ("5Mb", None),
        ] {
            assert_eq!(parse(&Quantity(text.to_owned())), expected, "{text}");
        }
    }
}
