use proptest::prelude::*;

use super::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 1);

fn answer(location: &str) -> Option<(SocketAddrV4, String)> {
    let text = format!("HTTP/1.1 200 OK\r\nST: x\r\nLocation:{location}\r\nEXT:\r\n\r\n");
    super::location(&text, GATEWAY)
}

#[test]
fn only_the_gateway_is_asked() {
    let place = |port, path: &str| Some((SocketAddrV4::new(GATEWAY, port), path.to_owned()));
    let found = answer(" http://192.168.10.1:5000/root.xml");
    assert_eq!(found, place(5000, "/root.xml"));
    assert_eq!(answer("http://192.168.10.1"), place(80, "/"));
    for other in [
        "http://192.168.10.2:5000/root.xml",
        "http://192.168.10.1@10.0.0.1/",
        "http://127.0.0.1:80/",
        "http://localhost/",
        "https://192.168.10.1/",
        "http://192.168.10.1:99999/",
        "http://192.168.10.1/a b",
        "",
    ] {
        assert_eq!(answer(other), None, "{other}");
    }
}

#[test]
fn the_service_is_found_among_others() {
    let description = "<root><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1\
        </serviceType><controlURL>/ctl/L3F</controlURL></service>\
        <service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
        <controlURL>/ctl/IPConn</controlURL></service></root>";
    let server = SocketAddrV4::new(GATEWAY, 5000);
    let own = Ipv4Addr::new(192, 168, 10, 2);
    let found = |text: &str| service(text, server, own).map(|igd| (igd.control, igd.path));
    let expected = Some((server, "/ctl/IPConn".to_owned()));
    assert_eq!(found(description), expected);
    for url in ["ctl/IPConn", "http://192.168.10.1:5000/ctl/IPConn"] {
        assert_eq!(found(&description.replace("/ctl/IPConn", url)), expected);
    }
    let elsewhere = description.replace("/ctl/IPConn", "http://10.0.0.1/ctl");
    assert_eq!(found(&elsewhere), None);
    assert_eq!(found(&description.replace("WANIP", "Other")), None);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(<service>|<serviceType>|urn:schemas-upnp-org:service:WANIPConnection:1|</serviceType>|<controlURL>|</controlURL>|http://|192.168.10.1|[:/é]|\\PC{0,5}){0,20}") {
        let server = SocketAddrV4::new(GATEWAY, 5000);
        if let Some(igd) = service(&text, server, GATEWAY) {
            prop_assert_eq!(*igd.control.ip(), GATEWAY);
        }
        let _ = location(&text, GATEWAY);
    }
}
