//! Tables of a page, and the code spans in a text.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The rows of every table under the heading `heading`, head rows left out; a cell as plain text.
#[must_use]
pub fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let (mut current, mut in_heading) = (String::new(), false);
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => (current, in_heading) = (String::new(), true),
            Event::End(TagEnd::Heading(_)) => in_heading = false,
            Event::Text(words) | Event::Code(words) if in_heading => current.push_str(&words),
            Event::Text(words) | Event::Code(words) => cell.push_str(&words),
            Event::Start(Tag::TableCell) => cell.clear(),
            Event::End(TagEnd::TableCell) => row.push(std::mem::take(&mut cell)),
            Event::End(TagEnd::TableHead) => row.clear(),
            Event::End(TagEnd::TableRow) if current == heading => rows.push(std::mem::take(&mut row)),
            Event::End(TagEnd::TableRow) => row.clear(),
            _ => {}
        }
    }
    rows
}

/// Every code span of a text, in their order.
#[must_use]
pub fn code_spans(text: &str) -> Vec<String> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
        .filter_map(|event| if let Event::Code(code) = event { Some(code.into_string()) } else { None })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_by_its_heading() {
        let text = "# A\n\n| x | y |\n| --- | --- |\n| `1` | two |\n\n# B\n\n| z |\n| --- |\n| 3 |\n";
        assert_eq!(rows(text, "A"), [["1", "two"]]);
        assert_eq!(rows(text, "B"), [["3"]]);
        assert_eq!(rows(text, "C"), Vec::<Vec<String>>::new());
        assert_eq!(code_spans(text), ["1"]);
    }
}
