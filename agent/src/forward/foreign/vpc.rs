//! VPC flow logs in their default format (version 2).
//!
//! In: a text. Out: if it is fourteen fields of that shape, `aws.vpcflow` with numbers as numbers; else nothing. A field that
//! AWS had nothing for (`-`) is left out.

use super::{put, put_number};

/// The names of AWS's documentation ("Flow log records", available fields), and whether each is a number.
const FIELDS: [(&str, bool); 14] = [
    ("version", true),
    ("account_id", false),
    ("interface_id", false),
    ("srcaddr", false),
    ("dstaddr", false),
    ("srcport", true),
    ("dstport", true),
    ("protocol", true),
    ("packets", true),
    ("bytes", true),
    ("start", true),
    ("end", true),
    ("action", false),
    ("log_status", false),
];

/// Appends `,"vpcflow":{…}`.
pub(super) fn append(out: &mut Vec<u8>, text: &str) {
    if !text.starts_with("2 ") || text.len() > 400 {
        return;
    }
    let values: Vec<&str> = text.split(' ').collect();
    let fits = |((_, number), value): (&(&str, bool), &&str)| {
        *value == "-" || !number || value.parse::<u64>().is_ok_and(|read| read.to_string() == **value)
    };
    let status = values.last().copied().unwrap_or_default();
    if values.len() != FIELDS.len()
        || !FIELDS.iter().zip(&values).all(fits)
        || !["OK", "NODATA", "SKIPDATA"].contains(&status)
    {
        return;
    }
    out.extend_from_slice(br#","vpcflow":{"#);
    for ((name, number), value) in FIELDS.iter().zip(values).filter(|(_, value)| *value != "-") {
        if *number { put_number(out, name, value) } else { put(out, name, value) }
    }
    out.push(b'}');
}
