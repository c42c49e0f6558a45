//! Kubernetes' CEL libraries, with the examples of its documentation, and the loops with two variables.

use super::{compile_errors, evaluate};
use serde_json::{Value, json};

#[track_caller]
fn check(table: &[(&str, Value)]) {
    for (source, expected) in table {
        assert_eq!(evaluate(source, &json!({})).as_ref(), Ok(expected), "{source}");
    }
}

#[track_caller]
fn refused(table: &[(&str, &str)]) {
    for (source, expected) in table {
        let error = evaluate(source, &json!({})).expect_err(source);
        assert_eq!(error.to_string(), *expected, "{source}");
    }
}

#[test]
fn lists() {
    check(&[
        ("[1, 3, 5].isSorted()", json!(true)),
        ("['b', 'a'].isSorted()", json!(false)),
        ("[].isSorted()", json!(true)),
        ("[1, 3].sum()", json!(4)),
        ("[1.5, 2.5].sum()", json!(4.0)),
        ("[].sum()", json!(0)),
        ("[duration('1m'), duration('30s')].sum()", json!("90s")),
        ("[5, 3, 4].min()", json!(3)),
        ("['a', 'c', 'b'].max()", json!("c")),
        ("[1, 2, 2, 3].indexOf(2)", json!(1)),
        ("[1, 2, 2, 3].lastIndexOf(2)", json!(2)),
        ("['a'].indexOf('b')", json!(-1)),
        ("'abcb'.indexOf('b') + 'abcb'.lastIndexOf('b')", json!(4)),
        ("[7, 8].first().value() + [7, 8].last().value()", json!(15)),
        ("[].first().hasValue()", json!(false)),
    ]);
    refused(&[
        ("[].min()", "min: min called on empty list"),
        ("[].max()", "max: max called on empty list"),
        ("['a', 'b'].map(x, dyn(x)).sum()", "sum: adds numbers or durations, not string"),
        ("[1, 'a'].max()", "max: compares values that have no order"),
        ("[[1], [2]].isSorted()", "isSorted: compares values that have no order"),
    ]);
}

#[test]
fn loops_with_two_variables() {
    check(&[
        ("[1, 2, 3].all(i, v, i > 0 || v == 1)", json!(true)),
        ("{'a': 1, 'b': 2}.all(k, v, k == 'a' && v == 1)", json!(false)),
        ("{'a': 1, 'b': 2}.exists(k, v, k == 'b' && v == 2)", json!(true)),
        ("{'a': 1, 'b': 1}.existsOne(k, v, v == 1)", json!(false)),
        ("{'a': 1, 'b': 2}.exists_one(k, v, v == 1)", json!(true)),
        ("[1, 2, 3].transformList(i, v, i > 0, 2 * v)", json!([4, 6])),
        ("{'b': 2, 'a': 1}.transformList(k, v, k + string(v))", json!(["a1", "b2"])),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v + 1)", json!({"a": 2, "b": 3})),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10)", json!({"b": 20})),
        ("['x', 'y'].transformMap(i, v, v)", json!({"0": "x", "1": "y"})),
        ("{'a': 'x'}.transformMapEntry(k, v, {v: k})", json!({"x": "a"})),
        ("['x', 'y'].transformMapEntry(i, v, i == 1, {v: i})", json!({"y": 1})),
        // An inner loop can name the variables of the outer one, and hide them.
        ("[[1, 2], [3]].all(i, l, l.all(j, v, v >= i + j))", json!(true)),
        ("[[1], [2]].transformList(i, v, v.transformList(i, v, v))", json!([[1], [2]])),
        ("[1].transformList(i, v, [5].map(v, v + i))", json!([[5]])),
        ("[1, 2].transformList(i, v, cel.bind(i, v, i))", json!([1, 2])),
        // As with one variable, an error beside a term that decides does no harm.
        ("{'a': 0, 'b': 1}.exists(k, v, 1 / v == 1)", json!(true)),
    ]);
    refused(&[
        (
            "['x', 'x'].transformMapEntry(i, v, {v: i})",
            "transformMapEntry: insert failed: key \"x\" already exists",
        ),
        ("dyn(5).all(k, v, true)", "dyn(5) is int, not a list or map"),
        ("[1, 0].transformList(i, v, 1 / v)", "1 / v divides by zero"),
    ]);
    let same = &compile_errors("[1].all(x, x, true)")[0];
    assert_eq!(same.to_string(), "the two variables of a loop need different names");
    let no_name = &compile_errors("[1].all(x, 1, true)")[0];
    assert_eq!(no_name.to_string(), "the first argument must be a plain name, such as x");
}

#[test]
fn bind() {
    check(&[
        ("cel.bind(x, 2, x * x)", json!(4)),
        ("cel.bind(x, 1, cel.bind(y, x + 1, [x, y]))", json!([1, 2])),
        ("[1, 2].map(i, cel.bind(double, i * 2, double + i))", json!([3, 6])),
        ("cel.bind(x, [1, 2, 3], x.exists(y, y == 3) && x.size() == 3)", json!(true)),
    ]);
    refused(&[("cel.bind(x, 1 / 0, true || x == 1)", "1 / 0 divides by zero")]);
}

#[test]
fn addresses_and_networks() {
    check(&[
        ("isIP('127.0.0.1') && isIP('::1') && isIP('2001:db8::68')", json!(true)),
        ("isIP('127.0.0.256') || isIP(':::1') || isIP('127.0.0.01')", json!(false)),
        ("isIP('::ffff:127.0.0.1') || isIP('fe80::1%eth0')", json!(false)),
        ("ip('127.0.0.1') == ip('127.0.0.1')", json!(true)),
        ("ip('::1') == ip('0:0:0:0:0:0:0:1')", json!(true)),
        ("string(ip('0:0:0:0:0:0:0:1'))", json!("::1")),
        ("ip('10.0.0.1')", json!("10.0.0.1")),
        ("ip.isCanonical('127.0.0.1') && ip.isCanonical('2001:db8::abcd')", json!(true)),
        ("ip.isCanonical('2001:DB8::ABCD')", json!(false)),
        ("[ip('127.0.0.1').family(), ip('::1').family()]", json!([4, 6])),
        ("ip('0.0.0.0').isUnspecified() && ip('::').isUnspecified()", json!(true)),
        ("ip('127.0.0.1').isLoopback() && ip('::1').isLoopback()", json!(true)),
        ("ip('224.0.0.1').isLinkLocalMulticast() && ip('ff02::1').isLinkLocalMulticast()", json!(true)),
        ("ip('224.0.1.1').isLinkLocalMulticast()", json!(false)),
        ("ip('169.254.169.254').isLinkLocalUnicast() && ip('fe80::1').isLinkLocalUnicast()", json!(true)),
        ("ip('192.168.0.1').isGlobalUnicast() && ip('2001:db8::abcd').isGlobalUnicast()", json!(true)),
        ("ip('255.255.255.255').isGlobalUnicast() || ip('ff00::1').isGlobalUnicast()", json!(false)),
        ("['10.1.2.3', '192.168.0.9'].filter(ip, cidr('10.0.0.0/8').containsIP(ip))", json!(["10.1.2.3"])),
        ("[ip('::1')].all(ip, ip.family() == 6)", json!(true)),
        ("isCIDR('192.168.0.0/16') && isCIDR('::1/128') && isCIDR('0.0.0.0/0')", json!(true)),
        ("isCIDR('192.168.0.0/33') || isCIDR('192.168.0.0') || isCIDR('10.0.0.0/08')", json!(false)),
        ("cidr('192.168.0.0/24').containsIP(ip('192.168.0.1'))", json!(true)),
        ("cidr('192.168.0.0/24').containsIP('192.168.1.1')", json!(false)),
        ("cidr('192.168.0.0/24').containsIP('::1')", json!(false)),
        ("cidr('192.168.0.0/16').containsCIDR(cidr('192.168.10.0/24'))", json!(true)),
        ("cidr('192.168.0.0/24').containsCIDR('192.168.0.0/16')", json!(false)),
        ("cidr('0.0.0.0/0').containsIP('8.8.8.8') && cidr('::/0').containsIP('::1')", json!(true)),
        ("cidr('192.168.1.5/24').masked() == cidr('192.168.1.0/24')", json!(true)),
        ("cidr('192.168.1.5/24') == cidr('192.168.1.0/24')", json!(false)),
        ("cidr('192.168.1.5/24').ip() == ip('192.168.1.5')", json!(true)),
        ("cidr('::1/128').prefixLength()", json!(128)),
        ("string(cidr('192.168.1.5/24').masked())", json!("192.168.1.0/24")),
    ]);
    refused(&[
        ("ip('127.0.0.256')", "ip: \"127.0.0.256\" is not an IP address"),
        ("ip('::ffff:1.2.3.4')", "ip: \"::ffff:1.2.3.4\" is an IPv4 address in an IPv6 one"),
        ("ip.isCanonical('x')", "ip.isCanonical: \"x\" is not an IP address"),
        ("cidr('10.0.0.0')", "cidr: \"10.0.0.0\" is not a network such as \"10.0.0.0/8\""),
        ("cidr('10.0.0.0/8').containsIP('x')", "containsIP: \"x\" is not an IP address"),
    ]);
}

#[test]
fn versions() {
    check(&[
        ("isSemver('1.0.0') && isSemver('0.1.0-alpha.1+build')", json!(true)),
        ("isSemver('hello') || isSemver('v1.0.0') || isSemver('1.0') || isSemver('01.0.0')", json!(false)),
        ("isSemver('v1.0', true) && isSemver('01.01.01', true)", json!(true)),
        ("isSemver('v1.0-rc.1', true)", json!(false)),
        ("semver('1.2.3') == semver('1.2.3+build')", json!(true)),
        ("semver('v01.01', true) == semver('1.1.0')", json!(true)),
        ("[semver('1.2.3').major(), semver('1.2.3').minor(), semver('1.2.3').patch()]", json!([1, 2, 3])),
        ("semver('1.2.3').compareTo(semver('1.2.3'))", json!(0)),
        ("semver('1.2.3').compareTo(semver('2.0.0'))", json!(-1)),
        ("semver('1.2.3').isGreaterThan(semver('1.2.3-rc.1'))", json!(true)),
        ("semver('1.10.0').isLessThan(semver('1.9.0'))", json!(false)),
        ("semver('1.2.3-rc.1')", json!("1.2.3-rc.1")),
    ]);
    refused(&[
        ("semver('v1.0.0')", "semver: \"v1.0.0\" is not a semantic version such as \"1.2.3\""),
        ("semver('1.0-rc', true)", "semver: \"1.0-rc\" is short and yet has a pre-release or build"),
    ]);
}

#[test]
fn urls() {
    check(&[
        ("isURL('https://user:pass@example.com:80/path?query=val#fragment')", json!(true)),
        (
            "isURL('/absolute-path') && isURL('https://a:b@c/') && isURL('mailto:someone@example.com')",
            json!(true),
        ),
        (
            "isURL('../relative-path') || isURL('') || isURL('https://a b.com/') || isURL('http://a:x/')",
            json!(false),
        ),
        ("isURL('https://[::1') || isURL('/%zz') || isURL('://x')", json!(false)),
        ("url('/path').getScheme()", json!("")),
        ("url('HTTPS://example.com/').getScheme()", json!("https")),
        ("url('https://user:pass@example.com:80/').getHost()", json!("example.com:80")),
        ("url('https://example.com/').getHost()", json!("example.com")),
        ("url('https://[::1]:80/').getHost()", json!("[::1]:80")),
        ("url('/path').getHost()", json!("")),
        ("url('https://[::1]:80/').getHostname()", json!("::1")),
        ("url('https://example.com:80/').getHostname()", json!("example.com")),
        ("url('https://example.com:443/').getPort()", json!("443")),
        ("url('https://[::1]/').getPort()", json!("")),
        ("url('https://example.com/with space/').getEscapedPath()", json!("/with%20space/")),
        ("url('https://example.com/a%2Fb').getEscapedPath()", json!("/a%2Fb")),
        ("url('https://example.com').getEscapedPath()", json!("")),
        ("url('https://example.com/path?k1=a&k2=b&k2=c').getQuery()", json!({"k1": ["a"], "k2": ["b", "c"]})),
        (
            "url('https://example.com/path?key with spaces=value with spaces').getQuery()",
            json!({"key with spaces": ["value with spaces"]}),
        ),
        ("url('https://example.com/path?').getQuery()", json!({})),
        ("url('https://example.com/?a=1#b').getQuery()['a'][0]", json!("1")),
        ("url('https://example.com/') == url('https://example.com/')", json!(true)),
        ("url('https://example.com/')", json!("https://example.com/")),
    ]);
    refused(&[("url('not a url')", "url: \"not a url\" is not an absolute URL or path")]);
}
