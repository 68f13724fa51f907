//! A gRPC status as text that people can read where a client logs it undecoded, as Envoy does.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};
use tonic::Status;

const MESSAGE: &str = "grpc-message";

/// Put a status into trailers, or into the headers of a response that has no body.
///
/// tonic writes each space as `%20`; gRPC over HTTP/2 wants only `%` and what is not printable ASCII encoded.
pub(crate) fn write_status(status: &Status, headers: &mut HeaderMap) -> Result<(), Status> {
    status.add_header(headers)?;
    if let Ok(message) = HeaderValue::from_str(&encode(status.message()))
        && !message.is_empty()
    {
        headers.insert(MESSAGE, message);
    }
    Ok(())
}

fn encode(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.trim_end().bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tonic::{Code, Status};

    use super::write_status;

    #[test]
    fn a_message_is_readable_as_it_stands_and_comes_back_whole() {
        for (text, written) in [
            (
                "node `x` has no id; see <docs>",
                "node `x` has no id; see <docs>",
            ),
            ("100 % of \u{e9}", "100 %25 of %C3%A9"),
            ("two\nlines", "two%0Alines"),
        ] {
            let mut headers = HeaderMap::new();
            write_status(&Status::invalid_argument(text), &mut headers).unwrap();
            assert_eq!(headers["grpc-message"], written);
            let read = Status::from_header_map(&headers).unwrap();
            assert_eq!((read.code(), read.message()), (Code::InvalidArgument, text));
        }
    }

    #[test]
    fn a_status_without_a_message_has_no_header_for_it() {
        let mut headers = HeaderMap::new();
        write_status(&Status::ok(""), &mut headers).unwrap();
        assert!(!headers.contains_key("grpc-message"));
    }
}
