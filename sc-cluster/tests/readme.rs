//! The table of options in the README is that of the code: the same names in the same order, with the same defaults.

use sc_cluster::Options;
use serde_json::Value;

#[test]
fn the_table_of_options_is_the_struct() {
    let readme = include_str!("../README.md");
    let table = readme.split("| option | default |").nth(1).unwrap().split("\n\n").next().unwrap();
    let said: Vec<(String, Value)> = table
        .lines()
        .skip(2)
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`'])).collect();
            assert!(cells.len() == 4 && !cells[2].is_empty() && !cells[3].is_empty(), "{row}");
            (cells[0].to_owned(), serde_json::from_str(cells[1]).unwrap())
        })
        .collect();
    let text = serde_json::to_string(&Options::default()).unwrap();
    // The order of the text is that of the struct; a map of serde_json sorts.
    let Value::Object(defaults) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    let mut code: Vec<(String, Value)> = defaults.into_iter().collect();
    code.sort_by_key(|(name, _)| text.find(&format!("\"{name}\":")));
    assert_eq!(said, code);
}
