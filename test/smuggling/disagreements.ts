/**
 * Where Sluice and its judges do not agree about a case, and why.
 *
 * Always holds: every case that is not here is read alike by Sluice, the strict grammar, HAProxy and nginx; a test compares the table with what
 * happens, in both directions. "stricter": Sluice passes on fewer requests than that judge, because it refuses, or ends the connection, earlier;
 * "laxer": more; otherwise what the requests differ in. Versions of the judges that read otherwise need another table.
 */
export interface Disagreement {
  readonly why: string;
  /** Names of cases by what the judges say; judges that are not named agree. " or " where a judge does now this, now that. */
  readonly cases: Readonly<Record<string, readonly string[]>>;
}

/** The versions for which the table holds: Debian 12. */
export const JUDGES = { haproxy: /^2\.6\./, nginx: /^1\.22\./ } as const;

/** Where a follower before a primary makes something else of a case than the primary alone. */
export const TWO_NODES: readonly Disagreement[] = [
  {
    why: "The follower gives a request without Host one, as HTTP/1.1 needs it: the address of the primary.",
    cases: { "other host": ["HTTP/1.0: GET without Host"] },
  },
  {
    why: "A method of RTSP that Node's parser knows only there: between the nodes HTTP is spoken, and it is refused.",
    cases: { stricter: ["request line: DESCRIBE /x RTSP/1.0\\r\\n"] },
  },
  {
    why: "What seems to have been forwarded already is not forwarded again: the follower refuses it.",
    cases: { "other target": ["field: Sluice-Hop: b;9", "field: Sluice-Hop: x", "field: Connection: Sluice-Hop\\r\\nSluice-Hop: b;9"] },
  },
];

export const DISAGREEMENTS: readonly Disagreement[] = [
  {
    why: "A coding in HTTP/1.0 is refused: RFC 9112, section 6.1, says that its framing is to be taken as faulty. HAProxy takes it and ends the connection.",
    cases: {
      "haproxy: stricter": [
        "HTTP/1.0: chunked", "HTTP/1.0: chunked, keep-alive", "HTTP/1.0: length against coding",
      ],
    },
  },
  {
    why: "HTTP/1.0 allows a request without Host; the application gets one, that of its own address.",
    cases: {
      "grammar: with host | haproxy: with host | nginx: with host": [
        "HTTP/1.0: GET without Host",
      ],
    },
  },
  {
    why: "HAProxy refuses HTTP/1.0 GETs with a body with 413; the body has a length, so that there is one way to read it.",
    cases: {
      "haproxy: laxer": [
        "HTTP/1.0: GET with a body",
      ],
    },
  },
  {
    why: "Expect ends here: the proxy itself says 100 Continue, or refuses other expectations with 417 as RFC 9110, section 10.1.1, has it. HAProxy sends the field on, nginx ignores what it does not know.",
    cases: {
      "grammar: stricter | haproxy: stricter | nginx: stricter": [
        "field: Expect: x", "field: Expect:",
      ],
      "grammar: without expect | haproxy: without expect": [
        "HTTP/1.0: expects 100", "message: expects 100, body at once", "message: expects 100, chunked at once",
        "message: expects 100 in other letters", "message: expects 100 and more", "message: expects 100, smuggles",
        "message: expects 100 with a blank",
      ],
      "grammar: without expect | haproxy: without expect | nginx: laxer": [
        "message: expects 100 twice",
      ],
      "grammar: without expect | haproxy: without expect | nginx: stricter": [
        "field: Expect: 100-continue",
      ],
      "haproxy: stricter": [
        "message: expects 100, folded",
      ],
    },
  },
  {
    why: "An offer of an upgrade that cannot be taken, because it is no GET of HTTP/1.1 without a body, is ignored; the request goes on without it, and the connection ends with its response. nginx and HAProxy go on with the connection.",
    cases: {
      "grammar: without upgrade | haproxy: laxer": [
        "message: WebSocket with HTTP/1.0",
      ],
      "grammar: without upgrade | haproxy: stricter | nginx: stricter": [
        "message: WebSocket by POST", "message: WebSocket, chunked",
      ],
    },
  },
  {
    why: "An upgrade to WebSocket goes to the application, with its version and its key, whatever they are; what follows waits for its 101 and is dropped with the connection without one. HAProxy refuses one without a key, nginx passes the request on without its Upgrade.",
    cases: {
      "grammar: stricter | haproxy: stricter | nginx: with upgrade": [
        "message: WebSocket of a wrong version",
      ],
      "grammar: stricter | haproxy: laxer | nginx: with upgrade": [
        "message: WebSocket without a key",
      ],
    },
  },
  {
    why: "Upgrade and HTTP2-Settings belong to one connection and end here; an offer that is not taken is ignored (RFC 9110, section 7.8), and the connection ends with the response.",
    cases: {
      "grammar: without http2-settings | haproxy: without http2-settings | nginx: without http2-settings": [
        "field: HTTP2-Settings: AAMAAABkAAQAAP__",
      ],
      "grammar: without upgrade | haproxy: without upgrade | nginx: stricter": [
        "field: Upgrade: h2c", "field: Upgrade: TLS/1.0\\r\\nConnection: Upgrade", "field: Upgrade: x\\r\\nConnection: Upgrade",
        "message: upgrade without Connection",
      ],
      "grammar: without upgrade, http2-settings | haproxy: without http2-settings | nginx: without http2-settings": [
        "message: h2c with a body",
      ],
      "grammar: without upgrade, http2-settings | haproxy: without upgrade, http2-settings | nginx: without http2-settings": [
        "field: Upgrade: h2c\\r\\nConnection: Upgrade, HTTP2-Settings\\r\\nHTTP2-Settings: AAMAAABkAAQAAP__",
      ],
    },
  },
  {
    why: "Tunnels are refused; HAProxy passes CONNECT on to a server that may know it.",
    cases: {
      "haproxy: stricter": [
        "message: CONNECT", "message: CONNECT with a request behind", "message: CONNECT with a length",
      ],
    },
  },
  {
    why: "TRACE is passed on to the application like any other method; nginx knows that nobody wants it and answers 405.",
    cases: {
      "nginx: laxer": [
        "chunked body: TRACE", "body with a length: TRACE", "empty chunked body: TRACE", "length zero: TRACE", "no body: TRACE", "message: TRACE",
        "message: TRACE, Max-Forwards",
      ],
    },
  },
  {
    why: "A question about the server as a whole is answered here (RFC 9110, section 9.3.7); HAProxy passes it on, nginx refuses it.",
    cases: {
      "grammar: other method | haproxy: other method | nginx: laxer": [
        "message: OPTIONS *", "message: OPTIONS * with a body",
      ],
    },
  },
  {
    why: "Sluice's own cookie is taken out on the way to the application.",
    cases: {
      "grammar: other cookie | haproxy: other cookie | nginx: other cookie": [
        "field: Cookie: a=b; __txid=1; c=d",
      ],
      "grammar: without cookie | haproxy: without cookie | nginx: without cookie": [
        "field: Cookie: __txid=1",
      ],
    },
  },
  {
    why: "A name that is Sluice's own in another spelling is refused; HAProxy passes it on, nginx drops all names with an underscore.",
    cases: {
      "grammar: stricter | haproxy: stricter | nginx: stricter": [
        "field: sluice_hop: b;9",
      ],
    },
  },
  {
    why: "Fields of Sluice's own come from Sluice or not at all.",
    cases: {
      "grammar: without sluice-hop | haproxy: without sluice-hop | nginx: without sluice-hop": [
        "field: Sluice-Hop: b;9", "field: Sluice-Hop: x", "field: Connection: Sluice-Hop\\r\\nSluice-Hop: b;9",
      ],
      "grammar: without sluice-txid | haproxy: without sluice-txid | nginx: without sluice-txid": [
        "field: Sluice-Txid: x",
      ],
    },
  },
  {
    why: "A name with an underscore is refused where CGI would take it for a framing or forwarding field, or for another field of the same request. HAProxy passes it on, nginx drops it.",
    cases: {
      "grammar: stricter | haproxy: stricter | nginx: stricter": [
        "coding alone: Transfer_Encoding: chunked", "length against coding: Transfer_Encoding: chunked", "length: Content_Length: 5",
        "length: Content-Length: 5\\r\\nContent_Length: 0", "length: Content_Length: 0\\r\\nContent-Length: 5", "length of a GET: Content_Length: 5",
        "field: X_Y: a\\r\\nX-Y: b", "field: Content_Type: a/b", "field: X_Forwarded_For: 9.9.9.9", "field: X-Forwarded_For: 9.9.9.9",
      ],
    },
  },
  {
    why: "Trailer describes this connection's message, and a message that is not chunked has no trailers.",
    cases: {
      "grammar: without trailer | haproxy: without trailer | nginx: without trailer": [
        "field: Trailer: X", "field: Trailer: Content-Length",
      ],
    },
  },
  {
    why: "A field that Connection names ends here (RFC 9110, section 7.6.1); HAProxy and nginx pass it on.",
    cases: {
      "grammar: without x | haproxy: without x | nginx: without x": [
        "field: Connection: close, X\\r\\nX: y", "field: Connection: X\\r\\nX: y", "field: Connection: keep-alive\\r\\nConnection: X\\r\\nX: y",
        "field: Connection: x\\r\\nX: y", "field: Connection: ,,X,\\r\\nX: y",
      ],
    },
  },
  {
    why: "One of two Connection fields says close: the connection ends; nginx looks at the last one only.",
    cases: {
      "nginx: stricter": [
        "field: Connection: close\\r\\nConnection: keep-alive",
      ],
    },
  },
  {
    why: "\"closed\" is not \"close\", the connection goes on; nginx looks for the letters.",
    cases: {
      "nginx: laxer": [
        "field: Connection: closed",
      ],
    },
  },
  {
    why: "A trailer with Connection: close is dropped as every other that is not announced, and ends the connection for Node's parser, behind the response.",
    cases: {
      "grammar: without trailers connection | haproxy: without trailers connection | nginx: stricter": [
        "trailer: Connection: close",
      ],
    },
  },
  {
    why: "TE belongs to one connection and ends here.",
    cases: {
      "grammar: without te": [
        "coding alone: TE: chunked", "length against coding: TE: chunked",
      ],
      "grammar: without te | haproxy: without te": [
        "field: TE: trailers", "field: TE: chunked, trailers",
      ],
    },
  },
  {
    why: "Credentials for a proxy end at the proxy.",
    cases: {
      "grammar: without proxy-authorization | haproxy: without proxy-authorization | nginx: without proxy-authorization": [
        "field: Proxy-Authorization: Basic x",
      ],
    },
  },
  {
    why: "Folded lines are refused, wherever they stand (RFC 9112, section 5.2). HAProxy joins them; nginx refuses them in heads and passes over trailers, HAProxy only sometimes.",
    cases: {
      "haproxy: stricter": [
        "coding alone: X: y\\r\\n Transfer-Encoding: chunked", "coding alone: Transfer-Encoding:\\r\\n chunked",
        "coding alone: Transfer-Encoding:\\n chunked", "coding alone: Transfer-Encoding:\\r\\n\\tchunked",
        "length against coding: X: y\\r\\n Transfer-Encoding: chunked", "length against coding: Transfer-Encoding:\\r\\n chunked",
        "length against coding: Transfer-Encoding:\\n chunked", "length against coding: Transfer-Encoding:\\r\\n\\tchunked",
        "length: X: y\\r\\n Content-Length: 5", "length: Content-Length:\\r\\n 5", "length: Content-Length: 5\\r\\n ", "host: Host:\\r\\n a",
        "host: Host: a\\r\\n b", "host: Host: a\\r\\n Host: b", "field:  X: y", "field: X: a\\n b", "field: X: a\\r\\n b", "field: X: a\\r\\n\\tb",
        "field: X: a\\r\\n ", "field: X: a\\r\\n \\r\\n b", "field: X: \"a\\r\\n b\"",
      ],
      "haproxy: stricter | nginx: stricter": [
        "trailer: X-T: 1\\r\\n 2",
      ],
      "nginx: stricter or haproxy: stricter | nginx: stricter": [
        "trailer:  X-T: 1",
      ],
    },
  },
  {
    why: "Content-Length beside Transfer-Encoding is refused, as RFC 9112, section 6.1, allows. HAProxy drops the length, believes the coding and ends the connection; nginx refuses where it knows the coding.",
    cases: {
      "haproxy: stricter": [
        "length against coding: Transfer-Encoding: chunked", "length against coding: Transfer-Encoding:chunked",
        "length against coding: Transfer-Encoding:\\tchunked", "length against coding: Transfer-Encoding:  chunked  ",
        "length against coding: Transfer-Encoding: chunked\\t", "length against coding: TRANSFER-ENCODING: chunked",
        "length against coding: transfer-encoding: CHUNKED", "length against coding: Transfer-Encoding: ChuNked",
        "length against coding: X: y\\nTransfer-Encoding: chunked", "length against coding: Transfer-Encoding: chunked,",
        "length against coding: Transfer-Encoding:\\r\\nTransfer-Encoding: chunked",
        "length against coding: Connection: Transfer-Encoding\\r\\nTransfer-Encoding: chunked", "coding against length: Transfer-Encoding: chunked",
        "coding against length: Transfer-Encoding:chunked", "coding against length: Transfer-Encoding:\\tchunked",
        "coding against length: Transfer-Encoding:  chunked  ", "coding against length: Transfer-Encoding: chunked\\t",
        "coding against length: TRANSFER-ENCODING: chunked", "coding against length: transfer-encoding: CHUNKED",
        "coding against length: Transfer-Encoding: ChuNked",
      ],
    },
  },
  {
    why: "A line that is no field (no colon, or a name that is no token) makes the whole head faulty; nginx drops such a line silently, and reads what is left.",
    cases: {
      "nginx: stricter": [
        "coding alone: Transfer-Encoding;: chunked", "coding alone: Transfer-Encoding=chunked", "coding alone: \\xefTransfer-Encoding: chunked",
        "coding alone: Transfer-Encoding\\xa0: chunked", "length against coding: Transfer-Encoding;: chunked",
        "length against coding: Transfer-Encoding=chunked", "length against coding: \\xefTransfer-Encoding: chunked",
        "length against coding: Transfer-Encoding\\xa0: chunked", "length: Content-Length=5",
      ],
    },
  },
  {
    why: "A lone CR is refused everywhere; nginx takes CR CR LF for the end of a line.",
    cases: {
      "nginx: stricter": [
        "coding alone: X: y\\r\\r\\nTransfer-Encoding: chunked", "field: X: a\\r\\r\\nY: b", "field: X: \\r",
        "message: head ends with CR CR LF CR LF",
      ],
    },
  },
  {
    why: "An empty element in the list of codings is refused; HAProxy passes over it.",
    cases: {
      "haproxy: stricter": [
        "coding alone: Transfer-Encoding: chunked,", "coding alone: Transfer-Encoding:\\r\\nTransfer-Encoding: chunked",
      ],
    },
  },
  {
    why: "Node's parser takes a tab behind \"chunked\" for a part of the coding, and refuses it.",
    cases: {
      "grammar: stricter | haproxy: stricter": [
        "coding alone: Transfer-Encoding: chunked\\t",
      ],
    },
  },
  {
    why: "White space behind a chunk size is refused; HAProxy and nginx pass over it.",
    cases: {
      "haproxy: stricter | nginx: stricter": [
        "chunk size: 5 ", "chunk size: 5\\t", "chunked stream: 5\\r\\nhello\\r\\n0 \\r\\n\\r\\n",
        "chunked stream: 5\\r\\nhello\\r\\n0\\t\\r\\n\\r\\n",
      ],
    },
  },
  {
    why: "A tab around a value is space to the grammar, to HAProxy and here; nginx takes it for a part of the value, and refuses that as a length, coding or host.",
    cases: {
      "nginx: laxer": [
        "coding alone: Transfer-Encoding:\\tchunked", "length: Content-Length:\\t5", "length: Content-Length: 5\\t",
        "length of a GET: Content-Length:\\t5", "length of a GET: Content-Length: 5\\t", "host: host:\\ta",
      ],
    },
  },
  {
    why: "The length is refused for having more than 15 digits, whatever they are.",
    cases: {
      "haproxy: stricter | nginx: stricter": [
        "length: Content-Length: 0000000000000000005", "length of a GET: Content-Length: 0000000000000000005",
      ],
    },
  },
  {
    why: "Lengths that are given twice are refused even where they are equal, as RFC 9112, section 6.3, allows; HAProxy merges them.",
    cases: {
      "haproxy: stricter": [
        "length: Content-Length: 5,5", "length: Content-Length: 5, 5", "length: Content-Length: 5\\r\\nContent-Length: 5",
        "length: Content-Length: 5\\r\\ncontent-length: 05", "length of a GET: Content-Length: 5,5", "length of a GET: Content-Length: 5, 5",
      ],
    },
  },
  {
    why: "Node's parser knows only plain chunk extensions: no space in them, no name left out, no quoted text without its end, ASCII only. They mean nothing, so the body would be the same.",
    cases: {
      "grammar: stricter | haproxy: stricter | nginx: stricter": [
        "chunk size: 5;", "chunk size: 5;a=\"b", "chunk size: 5 ;a", "chunk size: 5; a", "chunk size: 5;;", "chunk size: 5;\\xff",
        "chunk size: 5\\t;a", "chunk size: 5;a\\tb",
      ],
    },
  },
  {
    why: "Control characters in a chunk extension are refused; HAProxy and nginx pass over them.",
    cases: {
      "haproxy: stricter | nginx: stricter": [
        "chunk size: 5;a\\u0000", "chunk size: 5;a\\u0001", "chunk size: 5;\\x7f",
      ],
    },
  },
  {
    why: "Chunk extensions are bounded to 16 KiB in one body by Node's parser; HAProxy has a bound as well, nginx has none.",
    cases: {
      "grammar: stricter | nginx: stricter": [
        "chunk size: 5;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… (40002 bytes)",
      ],
    },
  },
  {
    why: "Something behind the size that is no extension is refused; nginx passes over the rest of the line.",
    cases: {
      "nginx: stricter": [
        "chunk size: 5 5",
      ],
    },
  },
  {
    why: "An empty line before a request is passed over, even if it ends with a lone LF; the strict grammar knows CR LF only. HAProxy and nginx do the same.",
    cases: {
      "grammar: laxer": [
        "chunked stream: 5\\r\\nhello\\r\\n0\\r\\n\\r\\n\\n", "request line: \\nGET /x HTTP/1.1\\r\\n", "message: LF behind a POST",
      ],
    },
  },
  {
    why: "Node's parser passes over a lone CR before a request, as nginx does; HAProxy refuses it. Nothing of it goes out.",
    cases: {
      "grammar: laxer | haproxy: laxer": [
        "request line: \\rGET /x HTTP/1.1\\r\\n",
      ],
    },
  },
  {
    why: "A line in a trailer section that is no field is refused; nginx passes over anything up to an empty line.",
    cases: {
      "nginx: stricter": [
        "chunked stream: 0\\r\\n", "chunked stream: 5\\r\\nhello\\r\\n0\\r\\nGET /smuggled HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", "trailer: X-T",
        "trailer: : 1", "trailer: GET /smuggled HTTP/1.1", "trailer: GET /smuggled HTTP/1.1\\r\\nHost: a",
      ],
    },
  },
  {
    why: "A trailer field with a faulty name or value is refused; nginx passes over it, and HAProxy as well where the request is on its way already.",
    cases: {
      "haproxy: stricter | nginx: stricter": [
        "trailer: X-T: a\\u0000b", "trailer: X-T: \\u0001",
      ],
      "nginx: stricter or haproxy: stricter | nginx: stricter": [
        "trailer: X-T : 1", "trailer: X T: 1", "trailer: X\\u0000: 1",
      ],
    },
  },
  {
    why: "Trailers that the request does not announce are dropped, because undici cannot send any; a message whose trailers are announced is sent another way. HAProxy passes all on, nginx none.",
    cases: {
      "grammar: without trailers x-t | haproxy: without trailers x-t": [
        "trailer: X-T: 1", "trailer: X-T:1", "trailer: X-T: 1\\r\\nX-T: 2", "trailer: X-T: \\xe9",
        "trailer: X-T: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… (4005 bytes)",
      ],
      "grammar: without trailers host | haproxy: without trailers host": [
        "trailer: Host: b",
      ],
      "grammar: without trailers cookie | haproxy: without trailers cookie": [
        "trailer: Cookie: a=b",
      ],
      "grammar: without trailers authorization | haproxy: without trailers authorization": [
        "trailer: Authorization: Basic x",
      ],
      "grammar: without trailers connection, x-t | haproxy: without trailers connection, x-t": [
        "trailer: Connection: X-T\\r\\nX-T: 1",
      ],
      "grammar: without trailers expect | haproxy: without trailers expect": [
        "trailer: Expect: 100-continue",
      ],
      "grammar: without trailers upgrade | haproxy: without trailers upgrade": [
        "trailer: Upgrade: websocket",
      ],
      "grammar: without trailers sluice-hop | haproxy: without trailers sluice-hop": [
        "trailer: Sluice-Hop: b;9",
      ],
      "grammar: without trailers x-forwarded-for | haproxy: without trailers x-forwarded-for": [
        "trailer: X-Forwarded-For: 9.9.9.9",
      ],
      "grammar: without trailers trailer | haproxy: without trailers trailer": [
        "trailer: Trailer: X",
      ],
      "grammar: without trailers content-encoding | haproxy: without trailers content-encoding": [
        "trailer: Content-Encoding: gzip",
      ],
      "grammar: without trailers set-cookie | haproxy: without trailers set-cookie": [
        "trailer: Set-Cookie: a=b",
      ],
      "grammar: without trailers __proto__ | haproxy: without trailers __proto__": [
        "trailer: __proto__: 1",
      ],
      "grammar: without trailers 90 fields | haproxy: without trailers 90 fields": [
        "trailer: X-0: 1\\r\\nX-1: 1\\r\\nX-2: 1\\r\\nX-3: 1\\r\\nX-4: 1\\r\\nX-5: 1\\r\\nX-6: 1\\r\\nX-7:… (798 bytes)",
      ],
    },
  },
  {
    why: "Announced trailers go on; nginx drops all.",
    cases: {
      "nginx: with trailers x-t": [
        "announced trailer: X-T: 1", "announced trailer: X-T:1", "announced trailer: X-T: 1\\r\\nX-T: 2",
      ],
    },
  },
  {
    why: "Announced or not, what frames, routes or authenticates has no place behind a body (RFC 9110, section 6.5.1): it is neither announced nor sent on. HAProxy passes it on, nginx drops all trailers.",
    cases: {
      "grammar: other trailer; without trailers host | haproxy: other trailer; without trailers host | nginx: other trailer; with trailers x-t": [
        "announced and not fit: Host: b",
      ],
      "grammar: other trailer; without trailers authorization | haproxy: other trailer; without trailers authorization | nginx: other trailer; with trailers x-t": [
        "announced and not fit: Authorization: Basic x",
      ],
      "grammar: other trailer; without trailers cookie | haproxy: other trailer; without trailers cookie | nginx: other trailer; with trailers x-t": [
        "announced and not fit: Cookie: a=b",
      ],
      "grammar: other trailer; without trailers connection | haproxy: other trailer; without trailers connection | nginx: other trailer; with trailers x-t": [
        "announced and not fit: Connection: close",
      ],
      "grammar: other trailer; without trailers expect | haproxy: other trailer; without trailers expect | nginx: other trailer; with trailers x-t": [
        "announced and not fit: Expect: 100-continue",
      ],
      "grammar: other trailer; without trailers sluice-hop | haproxy: other trailer; without trailers sluice-hop | nginx: other trailer; with trailers x-t": [
        "announced and not fit: Sluice-Hop: b;9",
      ],
      "grammar: other trailer; without trailers sluice_hop | haproxy: other trailer; without trailers sluice_hop | nginx: other trailer; with trailers x-t": [
        "announced and not fit: sluice_hop: b;9",
      ],
      "grammar: other trailer; without trailers x-forwarded-for | haproxy: other trailer; without trailers x-forwarded-for | nginx: other trailer; with trailers x-t": [
        "announced and not fit: X-Forwarded-For: 9.9.9.9",
      ],
      "grammar: other trailer; without trailers trailer | haproxy: other trailer; without trailers trailer | nginx: other trailer; with trailers x-t": [
        "announced and not fit: Trailer: X",
      ],
      "grammar: other trailer; without trailers x-http-method-override | haproxy: other trailer; without trailers x-http-method-override | nginx: other trailer; with trailers x-t": [
        "announced and not fit: X-HTTP-Method-Override: DELETE",
      ],
      "grammar: other trailer; without trailers if-match | haproxy: other trailer; without trailers if-match | nginx: other trailer; with trailers x-t": [
        "announced and not fit: If-Match: x",
      ],
    },
  },
  {
    why: "A trailer that says anything of framing is refused by Node's parser.",
    cases: {
      "grammar: stricter | haproxy: stricter | nginx: stricter": [
        "trailer: Content-Length: 5", "trailer: Transfer-Encoding: chunked",
        "announced and not fit: Content-Length: 5", "announced and not fit: Transfer-Encoding: chunked",
      ],
      "grammar: stricter | nginx: stricter": [
        "trailer: Transfer-Encoding: identity",
      ],
    },
  },
  {
    why: "Trailers are bounded as heads are; the bounds of HAProxy and nginx are others.",
    cases: {
      "grammar: stricter | nginx: stricter": [
        "trailer: X-T: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… (80005 bytes)",
      ],
      "grammar: without trailers 1000 fields | haproxy: laxer": [
        "trailer: X-0: 1\\r\\nX-1: 1\\r\\nX-2: 1\\r\\nX-3: 1\\r\\nX-4: 1\\r\\nX-5: 1\\r\\nX-6: 1\\r\\nX-7:… (9888 bytes)",
      ],
    },
  },
  {
    why: "The chunk is shorter than its size says: where its end should be stands something else. HAProxy and nginx take a lone LF there, and so the CR LF for a letter and an end.",
    cases: {
      "haproxy: stricter | nginx: stricter": [
        "chunked stream: 5\\r\\nhell\\r\\n0\\r\\n\\r\\n",
      ],
    },
  },
  {
    why: "A lone LF ends no line here. RFC 9112, section 2.2, lets a server take it for one, and HAProxy and nginx do.",
    cases: {
      "haproxy: stricter | nginx: stricter": [
        "coding alone: X: y\\nTransfer-Encoding: chunked", "length: X: y\\nContent-Length: 5", "length: Content-Length: 5\\nX: y",
        "chunked stream: 5\\nhello\\r\\n0\\r\\n\\r\\n", "chunked stream: 5;a\\nhello\\r\\n0\\r\\n\\r\\n",
        "chunked stream: 5\\r\\nhello\\n0\\r\\n\\r\\n", "chunked stream: 5\\r\\nhello\\r\\n0\\n\\n", "chunked stream: 5\\r\\nhello\\r\\n0\\r\\n\\n",
        "chunked stream: 5\\r\\nhello\\r\\n0\\n\\r\\n",
        "chunked stream: 2;\\nxx\\r\\n23\\r\\nGET /smuggled HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n\\r\\n0\\r\\n\\r\\n", "trailer: X-T: a\\nX-U: b",
        "message: all ends are LF", "message: head ends with LF LF", "message: head ends with CR LF LF", "message: head ends with LF CR LF",
        "message: LF inside a POST's head", "message: LF ends of a POST",
      ],
    },
  },
  {
    why: "Two blanks in a request line: passed over by Node's parser, HAProxy and nginx alike; one goes out.",
    cases: {
      "grammar: laxer": [
        "request line: GET  /x HTTP/1.1\\r\\n", "request line: GET /x  HTTP/1.1\\r\\n",
      ],
    },
  },
  {
    why: "Only a blank separates the parts of a request line; HAProxy takes a tab as well.",
    cases: {
      "haproxy: stricter": [
        "request line: GET\\t/x HTTP/1.1\\r\\n", "request line: GET /x\\tHTTP/1.1\\r\\n",
      ],
    },
  },
  {
    why: "A blank at the end of a request line is refused; nginx passes over it.",
    cases: {
      "nginx: stricter": [
        "request line: GET /x HTTP/1.1 \\r\\n",
      ],
    },
  },
  {
    why: "Without a version it would be HTTP/0.9, which is refused; nginx passes on whatever a GET may be.",
    cases: {
      "nginx: stricter": [
        "request line: GET /x\\r\\n", "request line: GET /xHTTP/1.1\\r\\n", "target: /x\\nX: y",
      ],
    },
  },
  {
    why: "A method that Node's parser does not know is refused; HAProxy passes any token on, nginx letters and dashes.",
    cases: {
      "grammar: stricter | haproxy: stricter": [
        "request line: get /x HTTP/1.1\\r\\n", "request line: GeT /x HTTP/1.1\\r\\n", "request line: $GET /x HTTP/1.1\\r\\n",
      ],
      "grammar: stricter | haproxy: stricter | nginx: stricter": [
        "request line: GETX /x HTTP/1.1\\r\\n", "request line: X-CUSTOM /x HTTP/1.1\\r\\n",
        "request line: MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM… (314 bytes)",
      ],
    },
  },
  {
    why: "Node's parser also knows the protocols RTSP and ICE, and reads such a request like one of HTTP. It arrives as HTTP/1.1 and means one thing; nobody sends it.",
    cases: {
      "grammar: laxer | haproxy: laxer | nginx: laxer": [
        "request line: DESCRIBE /x RTSP/1.0\\r\\n", "version: RTSP/1.0",
      ],
    },
  },
  {
    why: "A lone LF or a NUL at the end of a head is refused.",
    cases: {
      "haproxy: stricter": [
        "request line: GET /x HTTP/1.1\\n\\r\\n", "request line: GET /x HTTP/1.1\\r\\n\\r\\n\\u0000",
      ],
      "haproxy: stricter | nginx: stricter": [
        "request line: GET /x HTTP/1.1\\n",
      ],
    },
  },
  {
    why: "Only HTTP/1.0 and HTTP/1.1 are spoken here. HAProxy takes any digits, nginx some; both send on HTTP/1.1.",
    cases: {
      "haproxy: stricter": [
        "version: HTTP/2.0", "version: HTTP/3.0", "version: HTTP/0.9", "version: HTTP/0.0", "version: HTTP/9.9", "version of a POST: HTTP/2.0",
        "version of a POST: HTTP/3.0", "version of a POST: HTTP/0.9", "version of a POST: HTTP/0.0", "version of a POST: HTTP/9.9",
      ],
      "haproxy: stricter | nginx: stricter": [
        "version: HTTP/1.2", "version: HTTP/1.9", "version of a POST: HTTP/1.2", "version of a POST: HTTP/1.9",
      ],
      "nginx: stricter": [
        "version: HTTP/1.10", "version: HTTP/1.01", "version: HTTP/1.00", "version of a POST: HTTP/1.10", "version of a POST: HTTP/1.01",
        "version of a POST: HTTP/1.00",
      ],
    },
  },
  {
    why: "A fragment has no place in a request; nginx passes it on.",
    cases: {
      "nginx: stricter": [
        "target: /a#b", "target: /a?b#c", "target: /#", "target of a POST: /a#b", "target of a POST: /a?b#c", "target of a POST: /#",
      ],
    },
  },
  {
    why: "A target is ASCII; nginx passes other bytes on, and HAProxy that of a blank that does not break.",
    cases: {
      "haproxy: stricter | nginx: stricter": [
        "target: /x\\xa0y",
      ],
      "nginx: stricter": [
        "target: /x\\xe9", "target: /\\xc3\\xa9", "target: /x\\x80", "target: /x\\xff",
      ],
    },
  },
  {
    why: "A backslash in a path is refused, because some take it for a slash.",
    cases: {
      "grammar: stricter | haproxy: stricter | nginx: stricter": [
        "target: /\\\\x", "target: /a\\\\..\\\\b",
      ],
    },
  },
  {
    why: "Paths go on as they are: nginx resolves dots and escapes, and refuses what leads out or is no escape. Rules are matched against all readings.",
    cases: {
      "nginx: laxer": [
        "target: /..", "target: /%2e%2e/b", "target: /x%00", "target: /x%zz", "target: /x%", "target: /x%2", "target: /%u002f",
        "target of a POST: /..", "target of a POST: /%2e%2e/b",
      ],
    },
  },
  {
    why: "Long targets are bounded by limits.headBytes, 32 KiB; nginx has 8 KiB.",
    cases: {
      "grammar: stricter": [
        "target: /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… (70001 bytes)",
      ],
      "nginx: laxer": [
        "target: /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… (12001 bytes)",
      ],
    },
  },
  {
    why: "An absolute target without a path is legal; HAProxy refuses it.",
    cases: {
      "haproxy: laxer": [
        "target: http://a?x", "target of a POST: http://a?x", "target and host: http://a?x and a",
      ],
    },
  },
  {
    why: "The port goes on in Host as it came; HAProxy drops the one that the scheme implies.",
    cases: {
      "haproxy: other host": [
        "target and host: http://a:80/x and a:80",
      ],
    },
  },
  {
    why: "Only a path, or a URL whose host is the very text of the Host field, is taken; applications look at Host, and everything else could be read in two ways.",
    cases: {
      "grammar: stricter": [
        "target: http://a@b/x", "target: http://a\\\\x", "target: http://a\\\\@b/x", "target: http://a%2f@b/x", "target: http://a:x/",
        "target: http://a%2eb/x", "target: http://a,b/x", "target of a POST: http://a@b/x", "target and host: http://a/x and ",
      ],
      "grammar: stricter | haproxy: stricter": [
        "target: http://u@a/x", "target: http://u:p@a/x", "target of a POST: http://u@a/x",
      ],
      "grammar: stricter | haproxy: stricter | nginx: stricter": [
        "target: http://a:80/x", "target: http://a:/x", "target of a POST: http://a:80/x", "target and host: http://a:80/x and a",
        "target and host: http://a/x and a:80", "target and host: https://a/x and a:443",
      ],
      "grammar: stricter | nginx: stricter": [
        "target: http://b/x", "target: http://a:99999/x", "target: http://[::1]/x", "target of a POST: http://b/x",
        "target and host: http://a/x and b", "target and host: http://a./x and a", "target and host: http://a:0080/x and a:80",
      ],
      "haproxy: stricter": [
        "target: *", "target: **", "target: a/b", "target: http:///x", "target: http://", "target: file:///etc/passwd", "target of a POST: *",
        "target of a POST: **", "target of a POST: a/b", "target and host: http://a/x and none",
      ],
      "haproxy: stricter | nginx: stricter": [
        "target: ftp://a/x", "target: ws://a/x",
      ],
    },
  },
  {
    why: "Dots go on as they are; nginx refuses them.",
    cases: {
      "nginx: laxer": [
        "host: Host: a..b", "host: Host: .",
      ],
    },
  },
  {
    why: "HTTP/1.1 needs a Host; HAProxy passes on what has none.",
    cases: {
      "haproxy: stricter": [
        "host: X: y", "host: X-Host: b", "host: Host_: a",
      ],
    },
  },
  {
    why: "Two Host fields are refused even where they are equal; HAProxy merges them.",
    cases: {
      "haproxy: stricter": [
        "host: Host: a\\r\\nHost: a",
      ],
    },
  },
  {
    why: "Only a name, an IPv4 or a bracketed IPv6 address with an optional port is taken for a host; HAProxy and nginx pass on nearly anything.",
    cases: {
      "grammar: stricter | haproxy: stricter": [
        "host: Host:", "host: Host: ", "host: Host: a b", "host: Host: a, b", "host: Host: a/b", "host: Host: /", "host: Host: ::1",
        "host: Host: a\\tb", "host: Host: http://a/",
      ],
      "grammar: stricter | haproxy: stricter | nginx: stricter": [
        "host: Host: a:x", "host: Host: a:-1", "host: Host: a:80:80", "host: Host: a,b", "host: Host: a@b", "host: Host: u:p@a", "host: Host: a?b",
        "host: Host: a#b", "host: Host: a\\\\b", "host: Host: a;b", "host: Host: a&b", "host: Host: a=b", "host: Host: a|b", "host: Host: a'b",
        "host: Host: \"a\"", "host: Host: <a>", "host: Host: (a)", "host: Host: a!", "host: Host: a$", "host: Host: a*", "host: Host: a+b",
        "host: Host: {a}", "host: Host: a^", "host: Host: a`", "host: Host: [::1", "host: Host: []", "host: Host: [v1.x]", "host: Host: [::1%25eth0]",
        "host: Host: \\xe9", "host: Host: \\xc3\\xa9",
      ],
      "haproxy: stricter": [
        "host: Host: a\\u0000", "host: Host: a\\u0000b", "host: Host: \\u0001a", "host: Host: a\\x7f",
      ],
    },
  },
  {
    why: "Every name that is a token goes on; nginx drops names of other characters than letters, digits and dashes.",
    cases: {
      "nginx: with __proto__": [
        "field: __proto__: x",
      ],
      "nginx: with user_agent": [
        "field: User_Agent: a",
      ],
      "nginx: with x!y": [
        "field: X!Y: z", "field of a POST: X!Y: z",
      ],
      "nginx: with x#y": [
        "field: X#Y: z", "field of a POST: X#Y: z",
      ],
      "nginx: with x$y": [
        "field: X$Y: z", "field of a POST: X$Y: z",
      ],
      "nginx: with x%y": [
        "field: X%Y: z", "field of a POST: X%Y: z",
      ],
      "nginx: with x&y": [
        "field: X&Y: z", "field of a POST: X&Y: z",
      ],
      "nginx: with x'y": [
        "field: X'Y: z", "field of a POST: X'Y: z",
      ],
      "nginx: with x*y": [
        "field: X*Y: z", "field of a POST: X*Y: z",
      ],
      "nginx: with x+y": [
        "field: X+Y: z", "field of a POST: X+Y: z",
      ],
      "nginx: with x.y": [
        "field: X.Y: z", "field of a POST: X.Y: z",
      ],
      "nginx: with x^y": [
        "field: X^Y: z", "field of a POST: X^Y: z",
      ],
      "nginx: with x_y": [
        "field: X_Y: z", "field of a POST: X_Y: z",
      ],
      "nginx: with x`y": [
        "field: X`Y: z", "field of a POST: X`Y: z",
      ],
      "nginx: with x|y": [
        "field: X|Y: z", "field of a POST: X|Y: z",
      ],
      "nginx: with x~y": [
        "field: X~Y: z", "field of a POST: X~Y: z",
      ],
    },
  },
  {
    why: "A name that is no token, or a line without a colon, makes the head faulty; nginx drops such a line silently.",
    cases: {
      "nginx: stricter": [
        "field: X", "field: X\\xa0: y", "field: X\\xe9: y", "field: X(Y: z", "field: X)Y: z", "field: X<Y: z", "field: X>Y: z", "field: X@Y: z",
        "field: X,Y: z", "field: X;Y: z", "field: X\\\\Y: z", "field: X\"Y: z", "field: X/Y: z", "field: X[Y: z", "field: X]Y: z", "field: X?Y: z",
        "field: X=Y: z", "field: X{Y: z", "field: X}Y: z", "field of a POST: X", "field of a POST: X\\xa0: y", "field of a POST: X\\xe9: y",
        "field of a POST: X(Y: z", "field of a POST: X)Y: z", "field of a POST: X<Y: z", "field of a POST: X>Y: z", "field of a POST: X@Y: z",
        "field of a POST: X,Y: z", "field of a POST: X;Y: z", "field of a POST: X\\\\Y: z", "field of a POST: X\"Y: z", "field of a POST: X/Y: z",
        "field of a POST: X[Y: z", "field of a POST: X]Y: z", "field of a POST: X?Y: z", "field of a POST: X=Y: z", "field of a POST: X{Y: z",
        "field of a POST: X}Y: z",
      ],
    },
  },
  {
    why: "A long name is a name; HAProxy refuses it for its length.",
    cases: {
      "haproxy: laxer": [
        "field: XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX… (303 bytes)",
      ],
    },
  },
  {
    why: "Size and number of fields are bounded by limits.headBytes and limits.headerCount; the bounds of HAProxy and nginx are others.",
    cases: {
      "grammar: stricter": [
        "field: X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy… (60003 bytes)",
        "field: XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX… (60003 bytes)",
        "field: X-0: y\\r\\nX-1: y\\r\\nX-2: y\\r\\nX-3: y\\r\\nX-4: y\\r\\nX-5: y\\r\\nX-6: y\\r\\nX-7:… (53888 bytes)",
      ],
      "grammar: stricter | nginx: stricter": [
        "field: X-0: y\\r\\nX-1: y\\r\\nX-2: y\\r\\nX-3: y\\r\\nX-4: y\\r\\nX-5: y\\r\\nX-6: y\\r\\nX-7:… (2388 bytes)",
      ],
      "nginx: laxer": [
        "field: X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy… (14003 bytes)",
      ],
    },
  },
  {
    why: "A second Authorization goes on as it is; nginx refuses it.",
    cases: {
      "nginx: laxer": [
        "field: Authorization: Basic a\\r\\nAuthorization: Basic b",
      ],
    },
  },
  {
    why: "A NUL in a value is refused; HAProxy passes it on.",
    cases: {
      "haproxy: stricter": [
        "field: X: a\\u0000b", "field: X: \\u0000", "field of a POST: X: a\\u0000b",
      ],
    },
  },
  {
    why: "A lone LF ends no line here; nginx takes it for an end, and drops the line that is no field.",
    cases: {
      "nginx: stricter": [
        "field: X: a\\nb",
      ],
    },
  },
  {
    why: "Control characters in a value are refused, and a lone LF ends no line; HAProxy and nginx pass them on.",
    cases: {
      "haproxy: stricter | nginx: stricter": [
        "field: X: a\\u0001b", "field: X: a\\u0002b", "field: X: a\\u0003b", "field: X: a\\u0004b", "field: X: a\\u0005b", "field: X: a\\u0006b",
        "field: X: a\\u0007b", "field: X: a\\bb", "field: X: a\\u000bb", "field: X: a\\fb", "field: X: a\\u000eb", "field: X: a\\u000fb",
        "field: X: a\\u0010b", "field: X: a\\u0011b", "field: X: a\\u0012b", "field: X: a\\u0013b", "field: X: a\\u0014b", "field: X: a\\u0015b",
        "field: X: a\\u0016b", "field: X: a\\u0017b", "field: X: a\\u0018b", "field: X: a\\u0019b", "field: X: a\\u001ab", "field: X: a\\u001bb",
        "field: X: a\\u001cb", "field: X: a\\u001db", "field: X: a\\u001eb", "field: X: a\\u001fb", "field: X: a\\x7fb", "field: X: a\\nY: b",
        "field of a POST: X: a\\u0001b", "field of a POST: X: a\\u0002b", "field of a POST: X: a\\u0003b", "field of a POST: X: a\\u0004b",
        "field of a POST: X: a\\u0005b",
      ],
    },
  },
  {
    why: "A body without a length is the beginning of the next request; Node's parser does not know the method that it begins with, HAProxy passes it on.",
    cases: {
      "grammar: stricter | haproxy: stricter": [
        "message: POST with a body of no length",
      ],
    },
  },
  {
    why: "The head goes on in the next client's request; HAProxy reads it so, Node's parser refuses the blank in a name.",
    cases: {
      "haproxy: stricter": [
        "message: head without an end",
      ],
    },
  },
];
