// ../../tmp/perf.ts
import { readFileSync as readFileSync2 } from "node:fs";

// test/tdx/cases.ts
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

// verifier/protocol/errors.ts
var SubrosaError = class extends Error {
  /** Stable, dotted, lower case. */
  code;
  constructor(code, message, options) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
};
var FormatError = class extends SubrosaError {
};

// verifier/checks.ts
function pass(value, detail) {
  return detail === void 0 ? { status: "pass", value } : { status: "pass", value, detail };
}
function fail(reason, detail) {
  return detail === void 0 ? { status: "fail", reason } : { status: "fail", reason, detail };
}
function unavailable(reason) {
  return { status: "skip", cause: "unavailable", reason };
}
function waived(reason) {
  return { status: "skip", cause: "waived", reason: `waived: ${reason}` };
}
var Transcript = class {
  #plan;
  #byId;
  #entries = /* @__PURE__ */ new Map();
  /** @throws Error on a plan with a repeated id: a programming mistake. */
  constructor(plan) {
    this.#plan = plan;
    this.#byId = new Map(plan.map((definition) => [definition.id, definition]));
    if (this.#byId.size !== plan.length) throw new Error("a plan names a check twice");
  }
  /**
   * Carries out one check and returns its value, or undefined unless it passed.
   * When a check it needs has not passed, it is skipped and `find` is not called. A FormatError from `find` is a
   * failure; any other exception is a defect of ours and propagates.
   */
  check(id, find) {
    if (!this.#ready(id)) return void 0;
    let finding;
    try {
      finding = find();
    } catch (error) {
      finding = failureOf(error);
    }
    return this.#record(id, finding);
  }
  /** As `check`, for checks that wait for WebCrypto. */
  async checkAsync(id, find) {
    if (!this.#ready(id)) return void 0;
    let finding;
    try {
      finding = await find();
    } catch (error) {
      finding = failureOf(error);
    }
    return this.#record(id, finding);
  }
  /** Whether the check is part of this plan. */
  plans(id) {
    return this.#byId.has(id);
  }
  /** Whether the check passed. */
  passed(id) {
    return this.#entries.get(id)?.status === "pass";
  }
  /** Whether the check passed or the policy waived it. */
  satisfied(id) {
    const finding = this.#entries.get(id);
    return finding?.status === "pass" || finding?.status === "skip" && finding.cause === "waived";
  }
  /** Every check of the plan in plan order. */
  checks() {
    return this.#plan.map((definition) => {
      const { id, title, spec } = definition;
      const finding = this.#entries.get(id);
      if (finding === void 0) return { id, title, spec, status: "skip", reason: this.#unreached(definition) };
      const detail = "detail" in finding ? finding.detail : void 0;
      return {
        id,
        title,
        spec,
        status: finding.status,
        ...finding.status === "pass" ? {} : { reason: finding.reason },
        ...detail?.expected === void 0 ? {} : { expected: detail.expected },
        ...detail?.actual === void 0 ? {} : { actual: detail.actual }
      };
    });
  }
  /** Ids waived by the policy, in plan order. */
  waivers() {
    return this.checks().filter((check2) => this.satisfied(check2.id) && check2.status === "skip");
  }
  /** Malformed before rejected before unavailable; accepted only when every check passed or was waived. */
  verdict() {
    let rejected = false;
    let missing = false;
    let incomplete = false;
    for (const definition of this.#plan) {
      const finding = this.#entries.get(definition.id);
      if (finding?.status === "fail") {
        if (definition.malformed === true) return "malformed";
        rejected = true;
      } else if (finding?.status === "skip" && finding.cause === "unavailable") missing = true;
      else if (!this.satisfied(definition.id)) incomplete = true;
    }
    if (rejected) return "rejected";
    if (missing) return "unavailable";
    return incomplete ? "rejected" : "accepted";
  }
  #ready(id) {
    const definition = this.#byId.get(id);
    if (definition === void 0) throw new Error(`check ${id} is not in this plan`);
    if (this.#entries.has(id)) throw new Error(`check ${id} was carried out twice`);
    const missing = definition.needs?.find((needed) => this.#byId.has(needed) && !this.satisfied(needed));
    if (missing === void 0) return true;
    this.#entries.set(id, { status: "skip", cause: "needs", reason: `needs ${missing}` });
    return false;
  }
  #record(id, finding) {
    this.#entries.set(id, finding);
    if (finding.status === "pass") return finding.value;
    return finding.status === "skip" && finding.cause === "waived" ? finding.value : void 0;
  }
  #unreached(definition) {
    const missing = definition.needs?.find((needed) => this.#byId.has(needed) && !this.satisfied(needed));
    return missing === void 0 ? "not reached" : `needs ${missing}`;
  }
};
function failureOf(error) {
  if (error instanceof FormatError) return fail(error.message);
  throw error;
}

// verifier/protocol/bytes.ts
function toBytes(view) {
  return view.buffer instanceof ArrayBuffer ? view : new Uint8Array(view);
}
function concat(...parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}
var encoder = new TextEncoder();
var strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
function utf8(text) {
  return toBytes(encoder.encode(text));
}
function fromUtf8(bytes) {
  try {
    return strictDecoder.decode(bytes);
  } catch {
    throw new FormatError("utf8.invalid", "expected well-formed UTF-8");
  }
}
var HEX = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, "0"));
function toHex(bytes) {
  let out = "";
  for (const byte of bytes) out += HEX[byte];
  return out;
}
function fromHex(text) {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) {
    throw new FormatError("hex.invalid", "expected an even number of hexadecimal digits");
  }
  const out = new Uint8Array(text.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return out;
}
function toBase64(bytes) {
  let binary = "";
  for (let i = 0; i < bytes.length; i += 32768) binary += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(binary);
}
function fromBase64(text) {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
    throw new FormatError("base64.invalid", "expected base64 with padding and no white space");
  }
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) out[i] = binary.charCodeAt(i);
  if (toBase64(out) !== text) throw new FormatError("base64.invalid", "expected canonical base64");
  return out;
}
function fromBase64Url(text) {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) {
    throw new FormatError("base64url.invalid", "expected base64url without padding");
  }
  const padded = text.replaceAll("-", "+").replaceAll("_", "/");
  return fromBase64(padded + "=".repeat((4 - padded.length % 4) % 4));
}
function equalBytes(a, b) {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return difference === 0;
}
function isZero(bytes) {
  return bytes.every((byte) => byte === 0);
}
var ByteReader = class {
  #bytes;
  #what;
  #offset = 0;
  constructor(bytes, what) {
    this.#bytes = bytes;
    this.#what = what;
  }
  get offset() {
    return this.#offset;
  }
  get remaining() {
    return this.#bytes.length - this.#offset;
  }
  /** The next `length` bytes, as a copy. */
  take(length2) {
    if (!Number.isSafeInteger(length2) || length2 < 0 || length2 > this.remaining) {
      throw new FormatError(
        "bytes.truncated",
        `${this.#what}: expected ${length2} bytes at offset ${this.#offset}, ${this.remaining} left`
      );
    }
    const out = new Uint8Array(this.#bytes.subarray(this.#offset, this.#offset + length2));
    this.#offset += length2;
    return out;
  }
  u8() {
    return this.take(1)[0] ?? 0;
  }
  u16le() {
    const b = this.take(2);
    return new DataView(b.buffer).getUint16(0, true);
  }
  u16be() {
    const b = this.take(2);
    return new DataView(b.buffer).getUint16(0, false);
  }
  u32le() {
    const b = this.take(4);
    return new DataView(b.buffer).getUint32(0, true);
  }
  u32be() {
    const b = this.take(4);
    return new DataView(b.buffer).getUint32(0, false);
  }
  u64le() {
    const b = this.take(8);
    return new DataView(b.buffer).getBigUint64(0, true);
  }
  /** @throws FormatError when bytes are left over. */
  end() {
    if (this.remaining !== 0) {
      throw new FormatError(
        "bytes.trailing",
        `${this.#what}: ${this.remaining} unexpected bytes at offset ${this.#offset}`
      );
    }
  }
};

// verifier/der.ts
var TAG = {
  boolean: 1,
  integer: 2,
  bitString: 3,
  octetString: 4,
  null: 5,
  oid: 6,
  enumerated: 10,
  utf8String: 12,
  ia5String: 22,
  utcTime: 23,
  generalizedTime: 24,
  sequence: 48,
  set: 49
};
var MAX_DEPTH = 24;
var CONSTRUCTED = 32;
function readDer(bytes, what) {
  const element = elementAt(toBytes(bytes), 0, what);
  if (element.bytes.length !== bytes.length) throw new FormatError("der.trailing", `${what}: bytes after the element`);
  checkCanonical(element, what, 0);
  return element;
}
function childrenOf(parent, what) {
  if ((parent.tag & CONSTRUCTED) === 0)
    throw new FormatError("der.primitive", `${what}: expected a constructed element`);
  const out = [];
  for (let offset = 0; offset < parent.content.length; ) {
    const child = elementAt(parent.content, offset, what);
    out.push(child);
    offset += child.bytes.length;
  }
  return out;
}
function expectTag(element, tag, what) {
  if (element === void 0) throw new FormatError("der.missing", `${what}: missing`);
  if (element.tag !== tag) {
    throw new FormatError("der.tag", `${what}: expected tag 0x${tag.toString(16)}, found 0x${element.tag.toString(16)}`);
  }
  return element;
}
function smallInteger(element, what) {
  const { content } = expectTag(element, TAG.integer, what);
  if (((content[0] ?? 0) & 128) !== 0 || content.length > 4) {
    throw new FormatError("der.integer", `${what}: expected a small non-negative integer`);
  }
  return content.reduce((value, byte) => value * 256 + byte, 0);
}
function wholeBits(element, what) {
  const { content } = expectTag(element, TAG.bitString, what);
  if (content[0] !== 0) throw new FormatError("der.bits", `${what}: expected a bit string of whole bytes`);
  return content.subarray(1);
}
function oidText(element, what) {
  const { content } = expectTag(element, TAG.oid, what);
  const arcs = [];
  let arc = 0;
  let fresh = true;
  for (const byte of content) {
    if (fresh && byte === 128) throw new FormatError("der.oid", `${what}: padded object identifier`);
    arc = arc * 128 + (byte & 127);
    if (arc > 2147483647) throw new FormatError("der.oid", `${what}: object identifier arc out of range`);
    fresh = (byte & 128) === 0;
    if (fresh) {
      arcs.push(arc);
      arc = 0;
    }
  }
  const [first] = arcs;
  if (first === void 0 || !fresh) throw new FormatError("der.oid", `${what}: truncated object identifier`);
  const root = Math.min(2, Math.floor(first / 40));
  return [root, first - 40 * root, ...arcs.slice(1)].join(".");
}
function timeOf(element, what) {
  if (element === void 0) throw new FormatError("der.missing", `${what}: missing`);
  const text = String.fromCharCode(...element.content.subarray(0, 16));
  const match = element.tag === TAG.utcTime ? /^()(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text) : element.tag === TAG.generalizedTime ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text) : null;
  if (match === null) throw new FormatError("der.time", `${what}: expected a time in seconds, UTC`);
  const [century, year, month, day, hour, minute, second] = match.slice(1).map(Number);
  const fullYear = element.tag === TAG.utcTime ? year + (year < 50 ? 2e3 : 1900) : century * 100 + year;
  const date = /* @__PURE__ */ new Date(0);
  date.setUTCFullYear(fullYear, month - 1, day);
  date.setUTCHours(hour, minute, second);
  const same = date.getUTCFullYear() === fullYear && date.getUTCMonth() === month - 1 && date.getUTCDate() === day && date.getUTCHours() === hour && date.getUTCMinutes() === minute && date.getUTCSeconds() === second;
  if (!same) throw new FormatError("der.time", `${what}: no such time`);
  return date;
}
function elementAt(bytes, start, what) {
  const tag = bytes[start];
  const first = bytes[start + 1];
  if (tag === void 0 || first === void 0) throw new FormatError("der.truncated", `${what}: truncated element`);
  if ((tag & 31) === 31) throw new FormatError("der.tag", `${what}: high tag numbers are not used here`);
  let header = 2;
  let length2 = first;
  if (first >= 128) {
    const octets2 = first & 127;
    if (octets2 === 0 || octets2 > 4) throw new FormatError("der.length", `${what}: indefinite or oversized length`);
    length2 = 0;
    for (let i = 0; i < octets2; i++) length2 = length2 * 256 + (bytes[start + 2 + i] ?? 0);
    header += octets2;
    const minimal = length2 >= 128 && (octets2 === 1 || length2 >= 256 ** (octets2 - 1));
    if (!minimal) throw new FormatError("der.length", `${what}: length not in its shortest form`);
  }
  const end = start + header + length2;
  if (end > bytes.length) throw new FormatError("der.truncated", `${what}: element runs past the end`);
  return { tag, bytes: bytes.subarray(start, end), content: bytes.subarray(start + header, end) };
}
function checkCanonical(element, what, depth) {
  const { tag, content } = element;
  if (depth > MAX_DEPTH) throw new FormatError("der.depth", `${what}: nested too deeply`);
  if ((tag & CONSTRUCTED) !== 0) {
    for (const child of childrenOf(element, what)) checkCanonical(child, what, depth + 1);
    return;
  }
  if (tag === TAG.integer || tag === TAG.enumerated) {
    const [first, second] = content;
    const padded = second !== void 0 && (first === 0 && second < 128 || first === 255 && second >= 128);
    if (first === void 0 || padded) throw new FormatError("der.integer", `${what}: integer not in its shortest form`);
  } else if (tag === TAG.boolean) {
    if (content.length !== 1 || content[0] !== 0 && content[0] !== 255) {
      throw new FormatError("der.boolean", `${what}: boolean that is neither 00 nor FF`);
    }
  } else if (tag === TAG.null && content.length !== 0) {
    throw new FormatError("der.null", `${what}: null with contents`);
  } else if (tag === TAG.bitString && (content[0] === void 0 || content[0] > 7)) {
    throw new FormatError("der.bits", `${what}: malformed bit string`);
  }
}

// verifier/pem.ts
var MAX_BLOCKS = 256;
function looksLikePem(bytes) {
  return asciiText(bytes.subarray(0, 64 * 1024)).includes("-----BEGIN ");
}
function readPem(bytes) {
  const out = [];
  let explanatory = [];
  let open;
  for (const line of asciiText(bytes).split(/\r\n|\n|\r/)) {
    const begin = /^-----BEGIN ([A-Z0-9][A-Z0-9 ]*)-----\s*$/.exec(line);
    const end = /^-----END ([A-Z0-9][A-Z0-9 ]*)-----[\s\0]*$/.exec(line);
    if (open === void 0) {
      if (end !== null) throw new FormatError("pem.end", "PEM block ends before it begins");
      if (begin === null) explanatory.push(line);
      else open = { label: begin[1] ?? "", lines: [] };
    } else if (begin !== null) {
      throw new FormatError("pem.begin", `PEM block ${open.label} has no end`);
    } else if (end === null) {
      open.lines.push(line);
    } else {
      if (end[1] !== open.label) throw new FormatError("pem.label", `PEM block ${open.label} ends as ${end[1]}`);
      const der = fromBase64(open.lines.join("").replace(/\s/g, ""));
      if (der.length === 0) throw new FormatError("pem.empty", `PEM block ${open.label} is empty`);
      if (out.length === MAX_BLOCKS) throw new FormatError("pem.blocks", `more than ${MAX_BLOCKS} PEM blocks`);
      out.push({ label: open.label, der, explanatory });
      explanatory = [];
      open = void 0;
    }
  }
  if (open !== void 0) throw new FormatError("pem.begin", `PEM block ${open.label} has no end`);
  return out;
}
function asciiText(bytes) {
  let out = "";
  for (let i = 0; i < bytes.length; i += 8192) out += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return out;
}

// verifier/snp/certificate-table.ts
var CERTIFICATE_TABLE_GUIDS = {
  "63da758d-e664-4564-adc5-f4b93be8accd": "VCEK",
  "a8074bc2-a25a-483e-aae6-39c045a0b8a1": "VLEK",
  "4ab7b379-bbac-4fe4-a02f-05aef327c782": "ASK or ASVK",
  "c0b406a4-a803-4952-9743-3fb6014cd0ae": "ARK",
  "92f81bc3-5811-4d3d-97ff-d19f88dc67ea": "CRL"
};
var ENTRY_BYTES = 24;
var MAX_ENTRIES = 64;
function looksLikeCertificateTable(bytes) {
  return bytes.length >= 2 * ENTRY_BYTES && guidText(bytes.subarray(0, 16)) in CERTIFICATE_TABLE_GUIDS;
}
function readCertificateTable(bytes) {
  const table = toBytes(bytes);
  const reader = new ByteReader(table, "certificate table");
  const entries = [];
  for (; ; ) {
    const guid = reader.take(16);
    const offset = reader.u32le();
    const length2 = reader.u32le();
    if (isZero(guid) && offset === 0 && length2 === 0) break;
    if (entries.length === MAX_ENTRIES) {
      throw new FormatError("snp.certificate-table.entries", `certificate table: more than ${MAX_ENTRIES} entries`);
    }
    entries.push({ guid: guidText(guid), offset, length: length2 });
  }
  const headerEnd = reader.offset;
  return entries.map(({ guid, offset, length: length2 }) => {
    if (length2 === 0 || offset < headerEnd || offset + length2 > table.length) {
      throw new FormatError(
        "snp.certificate-table.bounds",
        `certificate table: entry ${guid} spans ${offset}..${offset + length2} of ${table.length} bytes`
      );
    }
    return { guid, bytes: table.subarray(offset, offset + length2) };
  });
}
function guidText(bytes) {
  const hex2 = toHex(bytes);
  return [hex2.slice(0, 8), hex2.slice(8, 12), hex2.slice(12, 16), hex2.slice(16, 20), hex2.slice(20)].join("-");
}

// verifier/tdx/collateral-set.ts
var MAX_SET_BYTES = 4 * 1024 * 1024;
var DOCUMENTS = [
  ["tcb_info", "tcbInfo"],
  ["qe_identity", "enclaveIdentity"]
];
var CHAINS = ["tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain"];
var ENCODED_PEM = utf8("-----BEGIN%20");
var OPEN_BRACE = 123;
var CRLS = ["root_ca_crl", "pck_crl"];
function collateralParts(bytes) {
  if (bytes.length > MAX_SET_BYTES) return void 0;
  if (startsWith(bytes, ENCODED_PEM)) return [{ name: "issuer chain", bytes: decodeIssuerChain(bytes) }];
  return bytes.find((byte) => byte > 32) === OPEN_BRACE ? splitCollateralSet(bytes) : void 0;
}
function splitCollateralSet(bytes) {
  const set = membersOf(bytes);
  if (set === void 0 || !("tcb_info" in set || "qe_identity" in set)) return void 0;
  const text = (name) => {
    const value = set[name];
    if (value === void 0 || typeof value === "string") return value;
    throw new FormatError("tdx.collateral-set.member", `collateral set: ${name} is not text`);
  };
  const documents = DOCUMENTS.flatMap(([name, member]) => {
    const inner = text(name);
    const signature = text(`${name}_signature`);
    if (inner === void 0 || signature === void 0) return [];
    return {
      name,
      bytes: concat(utf8(`{"${member}":`), utf8(inner), utf8(`,"signature":${JSON.stringify(signature)}}`))
    };
  });
  const chains = CHAINS.flatMap((name) => {
    const pem = text(name);
    return pem === void 0 ? [] : { name, bytes: utf8(pem) };
  });
  const crls = CRLS.flatMap((name) => {
    const hex2 = text(name);
    return hex2 === void 0 ? [] : { name, bytes: fromHexOrAsIs(hex2) };
  });
  return [...documents, ...chains, ...crls];
}
function fromHexOrAsIs(hex2) {
  try {
    return fromHex(hex2);
  } catch {
    return utf8(hex2);
  }
}
function membersOf(bytes) {
  try {
    const value = JSON.parse(fromUtf8(bytes));
    return typeof value === "object" && value !== null ? value : void 0;
  } catch {
    return void 0;
  }
}
function decodeIssuerChain(bytes) {
  try {
    return utf8(decodeURIComponent(fromUtf8(bytes)));
  } catch (cause) {
    throw new FormatError("tdx.collateral-set.chain", "issuer chain: malformed percent-encoding", { cause });
  }
}
function startsWith(bytes, prefix) {
  return prefix.every((byte, index) => bytes[index] === byte);
}

// verifier/x509.ts
import "reflect-metadata";
import { BasicConstraintsExtension, KeyUsageFlags, KeyUsagesExtension, Name, X509Certificate } from "@peculiar/x509";

// verifier/protocol/hash.ts
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 as nobleSha256, sha384 as nobleSha384, sha512 as nobleSha512 } from "@noble/hashes/sha2.js";
function sha256(data) {
  return toBytes(nobleSha256(data));
}
function sha384(data) {
  return toBytes(nobleSha384(data));
}
function sha512(data) {
  return toBytes(nobleSha512(data));
}

// verifier/x509.ts
var OID = {
  commonName: "2.5.4.3",
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35"
};
var MAX_CERTIFICATE_BYTES = 64 * 1024;
var MAX_CRL_BYTES = 2 * 1024 * 1024;
function parseCertificate(bytes) {
  return remembered(certificates, bytes, MAX_CERTIFICATE_BYTES, "certificate", readCertificate);
}
function parseRevocationList(bytes) {
  return remembered(lists, bytes, MAX_CRL_BYTES, "CRL", readRevocationList);
}
function inValidity(certificate, time) {
  return certificate.notBefore <= time && time <= certificate.notAfter;
}
function inWindow(list, time) {
  return list.thisUpdate <= time && time <= list.nextUpdate;
}
function namesIssuer(certificate, issuer) {
  return equalBytes(certificate.issuer, issuer.subject);
}
function subjectKeyId(certificate) {
  const extension = certificate.extensions.get(OID.subjectKeyIdentifier);
  if (extension === void 0) return void 0;
  return expectTag(readDer(extension.value, "subjectKeyIdentifier"), TAG.octetString, "subjectKeyIdentifier").content;
}
function authorityKeyId(item) {
  const extension = item.extensions.get(OID.authorityKeyIdentifier);
  if (extension === void 0) return void 0;
  const parts = childrenOf(readDer(extension.value, "authorityKeyIdentifier"), "authorityKeyIdentifier");
  return parts.find((part) => part.tag === 128)?.content;
}
function unknownCritical(item, known2 = [OID.basicConstraints, OID.keyUsage]) {
  return [...item.extensions].filter(([oid, { critical }]) => critical && !known2.includes(oid)).map(([oid]) => oid);
}
function readCertificate(bytes, sha256Hex) {
  const { parts, signed: signed2 } = readSigned(bytes, "certificate", sha256Hex);
  const [version, ...rest] = parts;
  expectTag(version, 160, "certificate version");
  if (smallInteger(childrenOf(version, "version")[0], "version") !== 2) {
    throw new FormatError("x509.version", "certificate: expected version 3");
  }
  const [serial, algorithm, issuer, validity, subject, spki2, ...optional3] = rest;
  checkInnerAlgorithm(algorithm, signed2, "certificate");
  const extensions = readExtensions(optional3.find((part) => part.tag === 163));
  const times = childrenOf(expectTag(validity, TAG.sequence, "validity"), "validity");
  const decoded = new X509Certificate(bytes);
  if (!equalBytes(new Uint8Array(decoded.signature), signed2.signature)) {
    throw new FormatError("x509.ambiguous", "certificate: two readings disagree");
  }
  const constraints = extensions.get(OID.basicConstraints);
  const usage = extensions.get(OID.keyUsage);
  const basic = constraints === void 0 ? void 0 : new BasicConstraintsExtension(constraints.der);
  const usages = usage === void 0 ? void 0 : new KeyUsagesExtension(usage.der).usages;
  const key = expectTag(spki2, TAG.sequence, "subjectPublicKeyInfo").bytes;
  return {
    ...signed2,
    serialHex: toHex(expectTag(serial, TAG.integer, "serialNumber").content),
    issuer: expectTag(issuer, TAG.sequence, "issuer").bytes,
    subject: expectTag(subject, TAG.sequence, "subject").bytes,
    issuerCommonName: onlyCommonName(decoded.issuerName),
    subjectCommonName: onlyCommonName(decoded.subjectName),
    notBefore: timeOf(times[0], "notBefore"),
    notAfter: timeOf(times[1], "notAfter"),
    spki: key,
    spkiSha256Hex: toHex(sha256(key)),
    extensions,
    isCa: basic?.ca ?? false,
    pathLength: basic?.pathLength,
    keyUsage: usages === void 0 ? void 0 : {
      certSign: (usages & KeyUsageFlags.keyCertSign) !== 0,
      crlSign: (usages & KeyUsageFlags.cRLSign) !== 0
    }
  };
}
function readRevocationList(bytes, sha256Hex) {
  const { parts, signed: signed2 } = readSigned(bytes, "CRL", sha256Hex);
  const [version, algorithm, issuer, thisUpdate, nextUpdate, ...rest] = parts;
  if (smallInteger(version, "CRL version") !== 1) throw new FormatError("x509.version", "CRL: expected version 2");
  checkInnerAlgorithm(algorithm, signed2, "CRL");
  const name = expectTag(issuer, TAG.sequence, "CRL issuer");
  const entries = rest.find((part) => part.tag === TAG.sequence);
  const revoked = entries === void 0 ? [] : childrenOf(entries, "revokedCertificates");
  return {
    ...signed2,
    issuer: name.bytes,
    issuerCommonName: onlyCommonName(new Name(name.bytes)),
    thisUpdate: timeOf(thisUpdate, "thisUpdate"),
    nextUpdate: timeOf(nextUpdate, "nextUpdate"),
    revokedSerials: new Set(revoked.map(revokedSerial)),
    extensions: readExtensions(rest.find((part) => part.tag === 160))
  };
}
function revokedSerial(entry) {
  const [serial, date, extensions] = childrenOf(expectTag(entry, TAG.sequence, "CRL entry"), "CRL entry");
  timeOf(date, "revocationDate");
  if (extensions !== void 0) {
    const critical = [...readExtensionList(extensions)].find(([, extension]) => extension.critical);
    if (critical !== void 0) throw new FormatError("x509.critical", `CRL entry: critical extension ${critical[0]}`);
  }
  return toHex(expectTag(serial, TAG.integer, "revoked serial").content);
}
function readSigned(bytes, what, sha256Hex) {
  const outer = childrenOf(expectTag(readDer(bytes, what), TAG.sequence, what), what);
  if (outer.length !== 3) throw new FormatError("x509.shape", `${what}: expected three elements`);
  const tbs = expectTag(outer[0], TAG.sequence, `${what} body`);
  const algorithm = expectTag(outer[1], TAG.sequence, `${what} signature algorithm`);
  const signature = wholeBits(outer[2], `${what} signature`);
  return {
    parts: childrenOf(tbs, what),
    signed: { der: bytes, sha256Hex, tbs: tbs.bytes, signatureAlgorithm: algorithm.bytes, signature }
  };
}
function checkInnerAlgorithm(inner, signed2, what) {
  const element = expectTag(inner, TAG.sequence, `${what} algorithm`);
  if (!equalBytes(element.bytes, signed2.signatureAlgorithm)) {
    throw new FormatError("x509.algorithm", `${what}: inner and outer signature algorithm differ`);
  }
}
function readExtensions(wrapper) {
  if (wrapper === void 0) return /* @__PURE__ */ new Map();
  const [list, ...extra] = childrenOf(wrapper, "extensions");
  if (list === void 0 || extra.length > 0) throw new FormatError("x509.extensions", "extensions: malformed");
  return readExtensionList(list);
}
function readExtensionList(list) {
  const out = /* @__PURE__ */ new Map();
  for (const item of childrenOf(expectTag(list, TAG.sequence, "extensions"), "extensions")) {
    const parts = childrenOf(expectTag(item, TAG.sequence, "extension"), "extension");
    const oid = oidText(parts[0], "extension");
    const critical = parts.length === 3 && expectTag(parts[1], TAG.boolean, oid).content[0] === 255;
    const value = expectTag(parts.length === 3 ? parts[2] : parts[1], TAG.octetString, oid).content;
    if (parts.length > 3) throw new FormatError("x509.extensions", `extension ${oid}: malformed`);
    if (out.has(oid)) throw new FormatError("x509.extension-twice", `extension ${oid} appears twice`);
    out.set(oid, { der: item.bytes, critical, value });
  }
  return out;
}
function onlyCommonName(name) {
  const names = name.getField(OID.commonName);
  return names.length === 1 ? names[0] : void 0;
}
var certificates = /* @__PURE__ */ new Map();
var lists = /* @__PURE__ */ new Map();
var MAX_REMEMBERED = 128;
function remembered(memory, input2, maxBytes, what, read2) {
  if (input2.length > maxBytes) throw new FormatError("x509.size", `${what}: ${input2.length} bytes, at most ${maxBytes}`);
  const sha256Hex = toHex(sha256(input2));
  const known2 = memory.get(sha256Hex);
  if (known2 !== void 0) return known2;
  const parsed = guarded(what, () => read2(new Uint8Array(input2), sha256Hex));
  const [oldest] = memory.keys();
  if (memory.size >= MAX_REMEMBERED && oldest !== void 0) memory.delete(oldest);
  memory.set(sha256Hex, parsed);
  return parsed;
}
function guarded(what, read2) {
  try {
    return read2();
  } catch (error) {
    if (error instanceof FormatError) throw error;
    throw new FormatError("x509.malformed", `${what}: malformed`, { cause: error });
  }
}

// verifier/endorsements.ts
function sortEndorsements(items) {
  const collector = { certificates: /* @__PURE__ */ new Map(), crls: /* @__PURE__ */ new Map(), documents: [], unrecognised: [] };
  for (const item of items) sortOne(item.name, toBytes(item.bytes), collector);
  return {
    certificates: [...collector.certificates.values()],
    crls: [...collector.crls.values()],
    documents: collector.documents,
    unrecognised: collector.unrecognised
  };
}
function preferCertificates(candidates, time) {
  return [...candidates].sort(
    (a, b) => Number(inValidity(b, time)) - Number(inValidity(a, time)) || b.notBefore.getTime() - a.notBefore.getTime()
  );
}
function preferRevocationLists(candidates, time) {
  return [...candidates].sort(
    (a, b) => Number(inWindow(b, time)) - Number(inWindow(a, time)) || b.thisUpdate.getTime() - a.thisUpdate.getTime()
  );
}
function sortOne(name, bytes, collector) {
  try {
    if (bytes.length === 0) throw new FormatError("endorsement.empty", "empty file");
    if (bytes[0] === 48 && sortDer(name, bytes, collector)) return;
    if (looksLikeCertificateTable(bytes)) {
      for (const entry of readCertificateTable(bytes)) sortOne(`${name} (${entry.guid})`, entry.bytes, collector);
      return;
    }
    const parts = collateralParts(bytes);
    if (parts !== void 0) {
      for (const part of parts) sortOne(`${name} (${part.name})`, part.bytes, collector);
      return;
    }
    const kind = kindOfText(bytes);
    if (kind !== void 0) {
      collector.documents.push({ kind, name, bytes });
      return;
    }
    if (looksLikePem(bytes)) {
      readPem(bytes).forEach((block, index) => {
        sortOne(`${name} (${block.label} ${index + 1})`, block.der, collector);
      });
      return;
    }
    collector.unrecognised.push({ name, reason: "not a kind of endorsement", bytes });
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    collector.unrecognised.push({ name, reason: error.message, bytes });
  }
}
function sortDer(name, bytes, collector) {
  const [first] = childrenOf(readDer(bytes, name), name);
  if (first === void 0) return false;
  if (first.tag === 10) {
    collector.documents.push({ kind: "ocsp", name, bytes });
    return true;
  }
  if (first.tag !== 48) return false;
  const [version] = childrenOf(first, name);
  if (version?.tag === 160) {
    const certificate = parseCertificate(bytes);
    collector.certificates.set(certificate.sha256Hex, certificate);
    return true;
  }
  if (version?.tag === 2) {
    const list = parseRevocationList(bytes);
    collector.crls.set(list.sha256Hex, list);
    return true;
  }
  return false;
}
var MAX_TEXT_BYTES = 4 * 1024 * 1024;
function kindOfText(bytes) {
  const first = bytes.find((byte) => byte > 32);
  if (bytes.length > MAX_TEXT_BYTES || first !== 123 && first !== 60) return void 0;
  if (first === 60) return /<(\w+:)?SoftwareIdentity[\s>]/.test(asText(bytes)) ? "rim" : void 0;
  if (/^\s*\{\s*"(tcbInfo|enclaveIdentity)"/.test(String.fromCharCode(...bytes.subarray(0, 64))))
    return "tdx-collateral";
  const members2 = jsonMembers(bytes);
  if (members2.includes("tcbInfo") || members2.includes("enclaveIdentity")) return "tdx-collateral";
  return members2.includes("keys") ? "jwks" : void 0;
}
function jsonMembers(bytes) {
  try {
    const value = JSON.parse(asText(bytes));
    return typeof value === "object" && value !== null ? Object.keys(value) : [];
  } catch {
    return [];
  }
}
function asText(bytes) {
  try {
    return fromUtf8(bytes);
  } catch {
    return "";
  }
}

// verifier/tdx/policy.ts
import * as v from "valibot";
var ACCEPTABLE_STATUSES = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "TDRelaunchAdvised",
  "TDRelaunchAdvisedConfigurationNeeded",
  "Unmatched"
];
var hexBytes = (size) => v.pipe(v.string(), v.toLowerCase(), v.regex(new RegExp(`^[0-9a-f]{${2 * size}}$`), `expected ${2 * size} hex digits`));
var some = (item) => v.pipe(v.array(item), v.minLength(1, "an empty list expects nothing; leave the member out or name what is accepted"));
var pin = (size) => v.optional(v.union([v.literal("any"), some(hexBytes(size))]), "any");
var permission = v.optional(v.picklist(["allowed", "forbidden"]), "forbidden");
var advisory = v.pipe(v.string(), v.regex(/^INTEL-(SA|DOC)-\d{1,8}$/, "expected an advisory such as INTEL-SA-01036"));
var rtmr = v.optional(
  v.union([v.literal("any"), some(hexBytes(48)), v.strictObject({ events: some(hexBytes(48)) })]),
  "any"
);
var count = (limit) => v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(limit)), 0);
var bit = v.pipe(v.number(), v.integer(), v.minValue(8), v.maxValue(63));
var tdxPolicySchema = v.strictObject({
  acceptedStatuses: v.optional(some(v.picklist(ACCEPTABLE_STATUSES)), () => ["UpToDate"]),
  acceptedAdvisories: v.optional(v.union([v.literal("any"), v.array(advisory)]), "any"),
  graceDays: count(366),
  minTcbEvaluationDataNumber: count(4294967295),
  debug: permission,
  migratable: permission,
  septVeDisable: v.optional(v.picklist(["required", "optional"]), "required"),
  attributeBits: v.optional(v.array(bit), () => []),
  tdAttributes: pin(8),
  xfam: pin(8),
  serviceTds: v.optional(v.array(hexBytes(48)), () => []),
  mrSeam: pin(48),
  mrSignerSeam: pin(48),
  mrTd: pin(48),
  rtmr0: rtmr,
  rtmr1: rtmr,
  rtmr2: rtmr,
  rtmr3: rtmr,
  mrConfigId: pin(48),
  mrOwner: pin(48),
  mrOwnerConfig: pin(48),
  minTeeTcbSvn: v.optional(hexBytes(16), "00".repeat(16)),
  fmspcs: pin(6),
  ppids: pin(16),
  platformInstanceIds: pin(16),
  eventLog: v.optional(v.picklist(["optional", "required"]), "optional")
});
var STRICT_TDX_POLICY = v.parse(tdxPolicySchema, {});
function completeTdxPolicy(input2) {
  return v.parse(tdxPolicySchema, input2);
}

// verifier/snp/hcl.ts
function looksLikeHcl(bytes) {
  return bytes[0] === 72 && bytes[1] === 67 && bytes[2] === 76 && bytes[3] === 65;
}
function reportDataOfClaims({ hash, claims }) {
  const digest = hash === "SHA-256" ? sha256(claims) : hash === "SHA-384" ? sha384(claims) : sha512(claims);
  const out = new Uint8Array(64);
  out.set(digest);
  return out;
}

// verifier/tdx/attributes.ts
var BIT = { debug: 0, septVeDisable: 28, migratable: 29, pks: 30, keyLocker: 31, perfmon: 63 };
var NAMED = new Set(Object.values(BIT));
var TUD_BITS = 8;
var XFAM_FIXED_1 = 0x3n;
var XFAM_FIXED_0 = 0x0006dbe7n;
function parseTdAttributes(bytes) {
  const set = bitsOf(bytes);
  const has = (bit2) => set.includes(bit2);
  return {
    debug: has(BIT.debug),
    septVeDisable: has(BIT.septVeDisable),
    migratable: has(BIT.migratable),
    pks: has(BIT.pks),
    keyLocker: has(BIT.keyLocker),
    perfmon: has(BIT.perfmon),
    reservedBits: set.filter((bit2) => !NAMED.has(bit2))
  };
}
function xfamFault(bytes) {
  const xfam = wordOf(bytes);
  if ((xfam & XFAM_FIXED_1) !== XFAM_FIXED_1) return "x87 and SSE state (bits 0 and 1) must be enabled";
  const extra = xfam & ~XFAM_FIXED_0;
  return extra === 0n ? void 0 : `bits outside 0x${XFAM_FIXED_0.toString(16)} are set: 0x${extra.toString(16)}`;
}
function wordText(bytes) {
  return `0x${toHex(new Uint8Array([...bytes].reverse()))}`;
}
function wordOf(bytes) {
  return bytes.reduceRight((word, byte) => word << 8n | BigInt(byte), 0n);
}
function bitsOf(bytes) {
  const out = [];
  bytes.forEach((byte, index) => {
    for (let bit2 = 0; bit2 < 8; bit2++) if ((byte & 1 << bit2) !== 0) out.push(8 * index + bit2);
  });
  return out;
}

// verifier/tdx/checks-appraisal.ts
var ABI = "Intel TDX Module 1.5 ABI 348551";
var SIGNED = ["tdx.quote.signature"];
var CERTIFIED = ["tdx.quote.signature", "tdx.pck.chain", "tdx.pck.extension"];
var REPORT_PINS = {
  tdAttributes: [
    "tdx.policy.td-attributes",
    "TDATTRIBUTES",
    "A TD with other features than you asked for could answer."
  ],
  xfam: ["tdx.policy.xfam-value", "XFAM", "A TD with other processor state than you asked for could answer."],
  mrSeam: ["tdx.policy.mr-seam", "MRSEAM", "Another build of the TDX module could run the TD."],
  mrSignerSeam: ["tdx.policy.mr-signer-seam", "MRSIGNERSEAM", "Another signer\u2019s TDX module could run the TD."],
  mrTd: ["tdx.policy.mr-td", "MRTD", "The TD could have been built from other firmware."],
  mrConfigId: ["tdx.policy.mr-config-id", "MRCONFIGID", "The TD could have been launched with another configuration."],
  mrOwner: ["tdx.policy.mr-owner", "MROWNER", "Another owner\u2019s TD could answer."],
  mrOwnerConfig: ["tdx.policy.mr-owner-config", "MROWNERCONFIG", "Another owner\u2019s configuration could be in force."]
};
var PCK_PINS = {
  fmspcs: ["tdx.policy.fmspc", "FMSPC", "Another kind of processor could answer."],
  ppids: ["tdx.policy.ppid", "PPID", "Another machine could answer."],
  platformInstanceIds: ["tdx.policy.platform-instance", "Platform Instance ID", "Another platform could answer."]
};
var RTMR_USE = [
  "firmware configuration",
  "boot loader and kernel",
  "operating system and command line",
  "application"
];
var APPRAISAL_CHECKS = [
  {
    id: "tdx.policy.debug",
    title: "DEBUG is off, where your policy forbids it",
    spec: `${ABI}, ATTRIBUTES bit 0`,
    gain: "The host can read and write all of the TD\u2019s memory and registers.",
    needs: SIGNED
  },
  {
    id: "tdx.policy.tud",
    title: "No other bit of the TUD group is set",
    spec: `${ABI}, ATTRIBUTES bits 7:1`,
    gain: "Profiling and debugging features of newer modules open the TD as DEBUG does.",
    needs: SIGNED
  },
  {
    id: "tdx.policy.attributes-reserved",
    title: "No reserved TDATTRIBUTES bit is set but those your policy names",
    spec: `${ABI}, ATTRIBUTES`,
    gain: "A feature nobody has judged could be on.",
    needs: SIGNED
  },
  {
    id: "tdx.policy.migratable",
    title: "MIGRATABLE is off, where your policy forbids it",
    spec: `${ABI}, ATTRIBUTES bit 29`,
    gain: "A migration TD can move the guest, keys included, to another machine.",
    needs: SIGNED
  },
  {
    id: "tdx.policy.sept-ve-disable",
    title: "SEPT_VE_DISABLE is on, where your policy requires it",
    spec: `${ABI}, ATTRIBUTES bit 28`,
    gain: "The host can inject exceptions at any instruction by taking pages away.",
    advice: "Some older clouds run without it; accept it with septVeDisable: optional only if your guest\u2019s kernel is safe so.",
    needs: SIGNED
  },
  {
    id: "tdx.policy.xfam",
    title: "XFAM has its fixed bits",
    spec: `${ABI}, XFAM`,
    gain: "A combination the module must refuse shows that the report is not the module\u2019s.",
    needs: SIGNED
  },
  {
    id: "tdx.policy.service-td",
    title: "No service TD is bound to the guest but those your policy names",
    spec: `${ABI}, TDREPORT_STRUCT, SERVTD_HASH`,
    gain: "A migration TD or other service TD can act on the guest.",
    needs: SIGNED
  },
  {
    id: "tdx.policy.tee-tcb-svn",
    title: "TEE_TCB_SVN is at least what your policy names, in every component",
    spec: `${ABI}, TEE_TCB_SVN`,
    gain: "An older module or microcode than you accept could run the TD.",
    needs: SIGNED
  },
  ...Object.values(PCK_PINS).map(
    ([id, field, gain]) => pinned(id, field, gain, "Intel SGX PCK Certificate and CRL Profile 1.5 \xA74.2", CERTIFIED)
  ),
  ...Object.values(REPORT_PINS).map(([id, field, gain]) => pinned(id, field, gain, `${ABI}, TDREPORT_STRUCT`, SIGNED)),
  ...RTMR_USE.map(
    (use, index) => pinned(
      `tdx.policy.rtmr${index}`,
      `RTMR${index}`,
      `Another ${use} could have been measured after launch.`,
      `${ABI}, TDREPORT_STRUCT, RTMR`,
      SIGNED
    )
  ),
  {
    id: "tdx.report-data",
    title: "REPORTDATA is the expected value in all 64 bytes",
    spec: `${ABI}, REPORTMACSTRUCT, REPORTDATA`,
    gain: "A recorded quote, or one made for somebody else\u2019s key, could be replayed.",
    needs: SIGNED
  },
  {
    id: "tdx.event-log.parse",
    title: "The event log is a well-formed confidential-computing log",
    spec: "TCG PC Client Platform Firmware Profile \xA710; Intel GHCI 348552, CCEL",
    gain: "A log read two ways could explain two different boots.",
    needs: ["tdx.quote.key-type"]
  },
  {
    id: "tdx.event-log.replay",
    title: "Replaying the event log gives RTMR0 to RTMR3 of the quote",
    spec: "Intel GHCI 348552, CCEL; TCG PC Client Platform Firmware Profile \xA710",
    gain: "The log could leave out, add or reorder what was booted.",
    needs: ["tdx.quote.signature", "tdx.event-log.parse"]
  },
  {
    id: "tdx.event-log.data",
    title: "Every event whose digest must be the hash of its data has that digest",
    spec: "TCG PC Client Platform Firmware Profile \xA710.4",
    gain: "The log could say one thing and have measured another.",
    needs: ["tdx.event-log.parse"]
  }
];
function pinned(id, field, gain, spec, needs) {
  return { id, title: `${field} is one your policy names, if it names any`, spec, gain, needs };
}

// verifier/tdx/event-log.ts
var MAX_LOG_BYTES = 4 * 1024 * 1024;
var MAX_EVENTS = 16384;
var MAX_DIGESTS = 16;
var ALG_SHA384 = 12;
var EV_NO_ACTION = 3;
var HASHES_DATA = [4, 2147483655, 2147483649];
var RUNTIME_EVENT = 134217729;
var SPEC_ID = utf8("Spec ID Event03\0");
function parseEventLog(bytes) {
  if (bytes.length > MAX_LOG_BYTES) {
    throw new FormatError("tdx.event-log.size", `event log: ${bytes.length} bytes, at most ${MAX_LOG_BYTES}`);
  }
  const events = bytes.find((byte) => byte > 32) === 91 ? readJsonLog(bytes) : readCcel(bytes);
  return { events, rtmrs: replay(events) };
}
function replay(events) {
  const rtmrs = [zeros(), zeros(), zeros(), zeros()];
  for (const { register, type, digest } of events) {
    if (register === "MRTD" || type === EV_NO_ACTION) continue;
    rtmrs[register] = extend(rtmrs[register], digest);
  }
  return rtmrs;
}
function extend(register, digest) {
  return sha384(concat(register, digest));
}
function replayDigests(digests) {
  return digests.reduce((register, digest) => extend(register, fromHex(digest)), zeros());
}
function digestsOf(log, rtmr2) {
  return log.events.filter(({ register, type }) => register === rtmr2 && type !== EV_NO_ACTION);
}
function readCcel(bytes) {
  const reader = new ByteReader(bytes, "event log");
  const sizes = readSpecId(reader);
  const events = [];
  while (!atEnd(bytes, reader.offset)) {
    if (events.length === MAX_EVENTS) throw malformed(`more than ${MAX_EVENTS} events`);
    events.push(readEvent(reader, sizes));
  }
  return events;
}
function readSpecId(reader) {
  reader.u32le();
  const type = reader.u32le();
  reader.take(20);
  const data = reader.take(reader.u32le());
  if (type !== EV_NO_ACTION || !equalBytes(data.subarray(0, SPEC_ID.length), SPEC_ID)) {
    throw malformed("expected a Spec ID event of version 03 first");
  }
  const spec = new ByteReader(data.subarray(SPEC_ID.length), "Spec ID event");
  spec.take(8);
  const count2 = spec.u32le();
  if (count2 === 0 || count2 > MAX_DIGESTS) throw malformed(`Spec ID event: ${count2} algorithms`);
  const sizes = /* @__PURE__ */ new Map();
  for (let i = 0; i < count2; i++) {
    const algorithm = spec.u16le();
    if (sizes.has(algorithm)) throw malformed("Spec ID event: an algorithm appears twice");
    sizes.set(algorithm, spec.u16le());
  }
  spec.take(spec.u8());
  spec.end();
  if (sizes.get(ALG_SHA384) !== 48) throw malformed("Spec ID event: expected SHA-384 digests of 48 bytes");
  return sizes;
}
function atEnd(bytes, offset) {
  const padding = bytes[offset];
  if (padding === void 0) return true;
  if (padding !== 255 && padding !== 0) return false;
  return bytes.subarray(offset).every((byte) => byte === padding);
}
function readEvent(reader, sizes) {
  const at = reader.offset;
  const index = reader.u32le();
  const type = reader.u32le();
  const count2 = reader.u32le();
  if (index > 4) throw malformed(`unknown register ${index} at offset ${at}`);
  if (count2 > MAX_DIGESTS) throw malformed(`${count2} digests at offset ${at}`);
  let digest;
  for (let i = 0; i < count2; i++) {
    const algorithm = reader.u16le();
    const size = sizes.get(algorithm);
    if (size === void 0) throw malformed(`unknown digest algorithm ${algorithm} at offset ${at}`);
    const value = reader.take(size);
    if (algorithm !== ALG_SHA384) continue;
    if (digest !== void 0) throw malformed(`two SHA-384 digests at offset ${at}`);
    digest = value;
  }
  const data = reader.take(reader.u32le());
  if (digest === void 0) throw malformed(`no SHA-384 digest at offset ${at}`);
  const register = index === 0 ? "MRTD" : index - 1;
  return { register, type, digest, data, coverage: coverageOf(type, digest, data) };
}
function readJsonLog(bytes) {
  let list;
  try {
    list = JSON.parse(fromUtf8(bytes));
  } catch (cause) {
    throw new FormatError("tdx.event-log.json", "event log: not well-formed JSON", { cause });
  }
  if (!Array.isArray(list) || list.length > MAX_EVENTS)
    throw malformed(`expected a list of at most ${MAX_EVENTS} events`);
  return list.map(readJsonEvent);
}
function readJsonEvent(item, at) {
  const { imr, event_type: type, digest, event: name, event_payload: payload } = item ?? {};
  const numbers = (imr === 0 || imr === 1 || imr === 2 || imr === 3) && Number.isInteger(type) && type >= 0;
  if (!numbers || typeof digest !== "string" || digest.length !== 96 || typeof name !== "string" || typeof payload !== "string") {
    throw malformed(`event ${at}: expected imr, event_type, digest, event and event_payload`);
  }
  const event = {
    register: imr,
    type,
    digest: fromHex(digest),
    data: fromHex(payload),
    name
  };
  return {
    ...event,
    coverage: event.type === RUNTIME_EVENT ? runtimeCoverage(event) : coverageOf(event.type, event.digest, event.data)
  };
}
function runtimeCoverage(event) {
  const type = new Uint8Array(4);
  new DataView(type.buffer).setUint32(0, event.type, true);
  const colon = utf8(":");
  const expected = sha384(concat(type, colon, utf8(event.name), colon, event.data));
  return equalBytes(expected, event.digest) ? "covered" : "contradicted";
}
function coverageOf(type, digest, data) {
  if (equalBytes(sha384(data), digest)) return "covered";
  return HASHES_DATA.includes(type) ? "contradicted" : "unverified";
}
var EVENT_NAMES = {
  3: "EV_NO_ACTION",
  4: "EV_SEPARATOR",
  6: "EV_EVENT_TAG",
  10: "EV_PLATFORM_CONFIG_FLAGS",
  13: "EV_IPL",
  2147483649: "EV_EFI_VARIABLE_DRIVER_CONFIG",
  2147483650: "EV_EFI_VARIABLE_BOOT",
  2147483651: "EV_EFI_BOOT_SERVICES_APPLICATION",
  2147483654: "EV_EFI_GPT_EVENT",
  2147483655: "EV_EFI_ACTION",
  2147483656: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
  2147483657: "EV_EFI_HANDOFF_TABLES",
  2147483658: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
  2147483659: "EV_EFI_HANDOFF_TABLES2",
  2147483660: "EV_EFI_VARIABLE_BOOT2",
  2147483872: "EV_EFI_VARIABLE_AUTHORITY"
};
function eventName({ type, name }) {
  const known2 = EVENT_NAMES[type] ?? `0x${type.toString(16).padStart(8, "0")}`;
  return name === void 0 || name === "" ? known2 : `${known2} "${name.slice(0, 60)}"`;
}
function zeros() {
  return new Uint8Array(48);
}
function malformed(reason) {
  return new FormatError("tdx.event-log.malformed", `event log: ${reason}`);
}

// verifier/tdx/hcl.ts
var HEADER_BYTES = 32;
var REPORT_BYTES = 1184;
var RUNTIME_HEADER_BYTES = 20;
var HASHES = { 1: "SHA-256", 2: "SHA-384", 3: "SHA-512" };
function readHclTdxEnvelope(bytes) {
  if (!looksLikeHcl(bytes)) throw malformed2("expected it to start with HCLA");
  const reader = new ByteReader(bytes, "HCL envelope");
  reader.take(4);
  const version = reader.u32le();
  const size = reader.u32le();
  const requestType = reader.u32le();
  const status = reader.u32le();
  reader.take(12);
  if (version !== 1 && version !== 2 || requestType !== 2 || status !== 0) {
    throw malformed2(`version ${version}, request type ${requestType}, status ${status}`);
  }
  reader.take(REPORT_BYTES);
  const runtimeSize = reader.u32le();
  reader.u32le();
  const reportType = reader.u32le();
  const hash = HASHES[reader.u32le()];
  const claimsLength = reader.u32le();
  if (reportType !== 4) throw malformed2(`holds report type ${reportType}, expected a TDX report`);
  if (hash === void 0) throw malformed2("unknown hash type");
  if (runtimeSize !== RUNTIME_HEADER_BYTES + claimsLength || size !== HEADER_BYTES + REPORT_BYTES + runtimeSize) {
    throw malformed2("its sizes disagree");
  }
  const claims = reader.take(claimsLength);
  if (!isZero(reader.take(reader.remaining))) throw malformed2("bytes after the claims");
  return { hash, claims };
}
function malformed2(reason) {
  return new FormatError("tdx.hcl.malformed", `HCL envelope: ${reason}`);
}

// verifier/tdx/td-report.ts
var TD_REPORT_10_BYTES = 584;
var TD_REPORT_15_BYTES = 648;
function parseTdReport(bytes) {
  if (bytes.length !== TD_REPORT_10_BYTES && bytes.length !== TD_REPORT_15_BYTES) {
    throw new FormatError(
      "tdx.body.length",
      `TD report: expected ${TD_REPORT_10_BYTES} or ${TD_REPORT_15_BYTES} bytes, found ${bytes.length}`
    );
  }
  const form = bytes.length === TD_REPORT_15_BYTES ? "1.5" : "1.0";
  const reader = new ByteReader(bytes, "TD report");
  const base = {
    teeTcbSvn: reader.take(16),
    //       0x000
    mrSeam: reader.take(48),
    //          0x010
    mrSignerSeam: reader.take(48),
    //    0x040
    seamAttributes: reader.take(8),
    //   0x070
    tdAttributes: reader.take(8),
    //     0x078
    xfam: reader.take(8),
    //             0x080
    mrTd: reader.take(48),
    //            0x088
    mrConfigId: reader.take(48),
    //      0x0B8
    mrOwner: reader.take(48),
    //         0x0E8
    mrOwnerConfig: reader.take(48),
    //   0x118
    rtmr0: reader.take(48),
    //           0x148
    rtmr1: reader.take(48),
    //           0x178
    rtmr2: reader.take(48),
    //           0x1A8
    rtmr3: reader.take(48),
    //           0x1D8
    reportData: reader.take(64)
    //      0x208
  };
  if (form === "1.0") {
    reader.end();
    return { form, ...base };
  }
  const teeTcbSvn2 = reader.take(16);
  const mrServiceTd = reader.take(48);
  reader.end();
  return { form, ...base, teeTcbSvn2, mrServiceTd };
}
function rtmrsOf(report) {
  return [report.rtmr0, report.rtmr1, report.rtmr2, report.rtmr3];
}

// verifier/tdx/appraise.ts
var ANY = "any: your policy names none";
function checkTd(t, report, policy) {
  const attributes = parseTdAttributes(report.tdAttributes);
  const actual = wordText(report.tdAttributes);
  const reserved = attributes.reservedBits.filter((bit2) => !policy.attributeBits.includes(bit2));
  const permitted = (name, set, rule) => {
    if (!set) return pass(void 0, { actual });
    return rule === "allowed" ? waived(`your policy allows ${name}, and it is set`) : fail(`${name} is set`, { actual });
  };
  const none = (bits, what) => {
    return bits.length === 0 ? pass(void 0, { actual }) : fail(`${what} set: bit ${bits.join(", ")}`, { actual });
  };
  t.check("tdx.policy.debug", () => permitted("DEBUG", attributes.debug, policy.debug));
  t.check(
    "tdx.policy.tud",
    () => none(
      attributes.reservedBits.filter((bit2) => bit2 < TUD_BITS),
      "TUD bits are"
    )
  );
  t.check(
    "tdx.policy.attributes-reserved",
    () => none(
      reserved.filter((bit2) => bit2 >= TUD_BITS),
      "reserved bits are"
    )
  );
  t.check("tdx.policy.migratable", () => permitted("MIGRATABLE", attributes.migratable, policy.migratable));
  t.check("tdx.policy.sept-ve-disable", () => {
    if (attributes.septVeDisable) return pass(void 0, { actual });
    if (policy.septVeDisable === "optional") return waived("your policy does without SEPT_VE_DISABLE, and it is off");
    return fail("SEPT_VE_DISABLE is off", { actual });
  });
  t.check("tdx.policy.xfam", () => {
    const fault = xfamFault(report.xfam);
    const detail = { actual: wordText(report.xfam) };
    return fault === void 0 ? pass(void 0, detail) : fail(fault, detail);
  });
  t.check("tdx.policy.service-td", () => checkServiceTd(report, policy));
  t.check("tdx.policy.tee-tcb-svn", () => {
    const minimum = fromHex(policy.minTeeTcbSvn);
    const detail = { expected: `at least ${policy.minTeeTcbSvn}`, actual: toHex(report.teeTcbSvn) };
    const reached = minimum.every((svn3, index) => (report.teeTcbSvn[index] ?? 0) >= svn3);
    return reached ? pass(void 0, detail) : fail("TEE_TCB_SVN is below your minimum", detail);
  });
}
function checkServiceTd({ mrServiceTd }, policy) {
  if (mrServiceTd === void 0) return pass(void 0, { actual: "not reported by a 1.0 body" });
  const actual = toHex(mrServiceTd);
  if (isZero(mrServiceTd)) return pass(void 0, { actual: "none" });
  if (policy.serviceTds.includes(actual)) return waived(`your policy lets service TD ${actual} act on the guest`);
  return fail("a service TD you did not name is bound to the guest", {
    expected: policy.serviceTds.join(" or ") || "none",
    actual
  });
}
function checkPlatformPins(t, pck, policy) {
  const values = {
    fmspcs: pck?.fmspc,
    ppids: pck?.ppid,
    platformInstanceIds: pck?.platformInstanceId
  };
  for (const member of Object.keys(PCK_PINS)) {
    t.check(PCK_PINS[member][0], () => matchPin(values[member], policy[member]));
  }
}
function checkReportPins(t, report, policy, log) {
  for (const member of Object.keys(REPORT_PINS)) {
    t.check(REPORT_PINS[member][0], () => matchPin(report[member], policy[member]));
  }
  rtmrsOf(report).forEach((actual, index) => {
    const register = index;
    t.check(`tdx.policy.rtmr${register}`, () => {
      const rule = policy[`rtmr${register}`];
      if (rule === "any" || !("events" in rule)) return matchPin(actual, rule);
      const expected = replayDigests(rule.events);
      const detail = { expected: `${toHex(expected)} after ${rule.events.length} events`, actual: toHex(actual) };
      if (equalBytes(expected, actual)) return pass(void 0, detail);
      const reason = `RTMR${register} is not what your ordered events lead to`;
      return fail(`${reason}${log === void 0 ? "" : firstDifference(log, register, rule.events)}`, detail);
    });
  });
}
function firstDifference(log, register, expected) {
  const logged = digestsOf(log, register);
  const at = logged.findIndex((event2, index) => toHex(event2.digest) !== expected[index]);
  const event = logged[at];
  if (event !== void 0) return `; first unexplained: event ${at}, ${eventName(event)}, ${toHex(event.digest)}`;
  return logged.length < expected.length ? `; the log ends before event ${logged.length}` : "";
}
function checkReportData(t, report, expected) {
  t.check("tdx.report-data", () => {
    if (expected === void 0) {
      return waived("no REPORTDATA was asked for: neither freshness nor a binding to anything is checked");
    }
    const padded = new Uint8Array(64);
    const fits = expected.length > 0 && expected.length <= 64;
    if (fits) padded.set(expected);
    const detail = { expected: toHex(fits ? padded : expected), actual: toHex(report.reportData) };
    if (!fits) return fail("the expected value must have 1 to 64 bytes", detail);
    return equalBytes(padded, report.reportData) ? pass(void 0, detail) : fail("REPORTDATA is another value", detail);
  });
}
function checkEventLogForm(t, bytes, policy) {
  return t.check("tdx.event-log.parse", () => {
    if (bytes === void 0) return withoutLog(policy);
    const log = parseEventLog(bytes);
    return pass(log, { actual: `${log.events.length} events` });
  });
}
function checkEventLog(t, report, log, policy) {
  t.check("tdx.event-log.replay", () => {
    if (log === void 0) return withoutLog(policy);
    const actual = rtmrsOf(report);
    const wrong = actual.flatMap((value, index) => equalBytes(value, log.rtmrs[index] ?? value) ? [] : [index]);
    if (wrong.length === 0) return pass();
    return fail(`the log does not lead to ${wrong.map((index) => `RTMR${index}`).join(", ")}`, {
      expected: wrong.map((index) => toHex(actual[index] ?? new Uint8Array())).join(" "),
      actual: wrong.map((index) => toHex(log.rtmrs[index] ?? new Uint8Array())).join(" ")
    });
  });
  t.check("tdx.event-log.data", () => {
    if (log === void 0) return withoutLog(policy);
    const at = log.events.findIndex(({ coverage }) => coverage === "contradicted");
    const event = log.events[at];
    if (event === void 0) return pass();
    return fail(`event ${at}, ${eventName(event)}: its digest is not the hash of its data`, {
      actual: toHex(event.digest)
    });
  });
}
function checkHcl(t, report, bytes, carried) {
  if (!t.plans("tdx.hcl.claims")) return false;
  t.check("tdx.hcl.claims", () => {
    const hcl = bytes === void 0 ? carried : readHclTdxEnvelope(bytes);
    if (hcl === void 0) return unavailable("no HCL envelope at hand");
    const expected = reportDataOfClaims(hcl);
    if (equalBytes(expected, report.reportData)) return pass(void 0, { actual: hcl.hash });
    const detail = { expected: toHex(expected), actual: toHex(report.reportData) };
    return fail(`REPORTDATA is not the ${hcl.hash} of the runtime claims`, detail);
  });
  return true;
}
function withoutLog(policy) {
  if (policy.eventLog === "required") return unavailable("no event log at hand; your policy requires one");
  return waived("eventLog: optional; none was given, and the RTMRs stand by their final values alone");
}
function matchPin(value, accepted) {
  const actual = value === void 0 ? "absent" : toHex(value);
  if (accepted === "any") return pass(void 0, { expected: ANY, actual });
  const detail = { expected: accepted.join(" or "), actual };
  return accepted.includes(actual) ? pass(void 0, detail) : fail("the value is none your policy names", detail);
}

// verifier/signature.ts
var OID2 = {
  rsassaPss: "1.2.840.113549.1.1.10",
  mgf1: "1.2.840.113549.1.1.8",
  sha384: "2.16.840.1.101.3.4.2.2",
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
  ecdsaWithSha384: "1.2.840.10045.4.3.3"
};
var SCHEMES = {
  "rsassa-pss-sha384": {
    key: { name: "RSA-PSS", hash: "SHA-384" },
    verify: { name: "RSA-PSS", saltLength: 48 }
  },
  "ecdsa-p256-sha256": {
    key: { name: "ECDSA", namedCurve: "P-256" },
    verify: { name: "ECDSA", hash: "SHA-256" },
    coordinate: 32
  },
  "ecdsa-p384-sha384": {
    key: { name: "ECDSA", namedCurve: "P-384" },
    verify: { name: "ECDSA", hash: "SHA-384" },
    coordinate: 48
  }
};
var MIN_RSA_BITS = 2048;
function isSignedBy(signed2, issuer, scheme) {
  const id = `${scheme} ${signed2.sha256Hex} ${issuer.spkiSha256Hex}`;
  return remembered2(answers, id, () => answerFor(signed2, issuer, scheme));
}
function importVerifyKey(certificate, scheme) {
  return remembered2(keys, `${scheme} ${certificate.spkiSha256Hex}`, () => importSpki(certificate.spki, scheme));
}
async function importP256Point(point) {
  if (point.length !== 64) return void 0;
  const { key } = SCHEMES["ecdsa-p256-sha256"];
  return globalThis.crypto.subtle.importKey("raw", concat(Uint8Array.of(4), point), key, false, ["verify"]).catch(() => void 0);
}
function verifyP256(key, signature, message) {
  return globalThis.crypto.subtle.verify(SCHEMES["ecdsa-p256-sha256"].verify, key, signature, message);
}
function isMessageSignedBy(message, messageSha256Hex, signature, certificate) {
  const scheme = "ecdsa-p256-sha256";
  const id = `${scheme} ${messageSha256Hex} ${toHex(signature)} ${certificate.spkiSha256Hex}`;
  return remembered2(answers, id, async () => {
    try {
      return await verifyP256(await importVerifyKey(certificate, scheme), signature, message);
    } catch (error) {
      if (error instanceof FormatError) return false;
      throw error;
    }
  });
}
async function answerFor(signed2, issuer, scheme) {
  try {
    requireAlgorithm(signed2.signatureAlgorithm, scheme);
    const { verify, coordinate } = SCHEMES[scheme];
    const signature = coordinate === void 0 ? signed2.signature : ecdsaP1363(signed2.signature, coordinate);
    const key = await importVerifyKey(issuer, scheme);
    return await globalThis.crypto.subtle.verify(verify, key, signature, signed2.tbs);
  } catch (error) {
    if (error instanceof FormatError) return false;
    throw error;
  }
}
async function importSpki(spki2, scheme) {
  const key = await globalThis.crypto.subtle.importKey("spki", spki2, SCHEMES[scheme].key, false, ["verify"]).catch((cause) => {
    throw new FormatError("signature.key", `key is not usable for ${scheme}`, { cause });
  });
  const { modulusLength } = key.algorithm;
  if (modulusLength !== void 0 && modulusLength < MIN_RSA_BITS) {
    throw new FormatError("signature.key", `RSA key of ${modulusLength} bits, at least ${MIN_RSA_BITS}`);
  }
  return key;
}
function requireAlgorithm(identifier, scheme) {
  const [oid, parameters, ...extra] = childrenOf(readDer(identifier, "signature algorithm"), "signature algorithm");
  const named = oidText(oid, "signature algorithm");
  if (scheme === "rsassa-pss-sha384") {
    if (named !== OID2.rsassaPss || extra.length > 0) throw wrongAlgorithm(scheme, named);
    requirePssParameters(parameters);
    return;
  }
  const wanted = scheme === "ecdsa-p256-sha256" ? OID2.ecdsaWithSha256 : OID2.ecdsaWithSha384;
  if (named !== wanted || parameters !== void 0) throw wrongAlgorithm(scheme, named);
}
function requirePssParameters(parameters) {
  const what = "RSASSA-PSS parameters";
  const fields = /* @__PURE__ */ new Map();
  for (const field of childrenOf(expectTag(parameters, TAG.sequence, what), what)) {
    const [inner, ...extra] = childrenOf(field, what);
    if (fields.has(field.tag) || inner === void 0 || extra.length > 0) throw new FormatError("signature.pss", what);
    fields.set(field.tag, inner);
  }
  const trailer = fields.get(163);
  const mgf = childrenOf(expectTag(fields.get(161), TAG.sequence, what), what);
  const known2 = [...fields.keys()].every((tag) => tag >= 160 && tag <= 163);
  const right = known2 && isSha384(fields.get(160)) && mgf.length === 2 && oidText(mgf[0], what) === OID2.mgf1 && isSha384(mgf[1]) && smallInteger(fields.get(162), what) === 48 && (trailer === void 0 || smallInteger(trailer, what) === 1);
  if (!right) throw new FormatError("signature.pss", `${what}: expected SHA-384, MGF1 with SHA-384, salt 48, trailer 1`);
}
function isSha384(identifier) {
  const [oid, parameters, ...extra] = childrenOf(expectTag(identifier, TAG.sequence, "hash"), "hash");
  return oidText(oid, "hash") === OID2.sha384 && (parameters === void 0 || parameters.tag === TAG.null) && extra.length === 0;
}
function ecdsaP1363(signature, coordinate) {
  const what = "ECDSA signature";
  const values = childrenOf(expectTag(readDer(signature, what), TAG.sequence, what), what);
  if (values.length !== 2) throw new FormatError("signature.ecdsa", `${what}: expected two integers`);
  const out = new Uint8Array(2 * coordinate);
  values.forEach((value, index) => {
    const { content } = expectTag(value, TAG.integer, what);
    const unsigned = content[0] === 0 ? content.subarray(1) : content;
    const negative = ((content[0] ?? 0) & 128) !== 0;
    if (negative || unsigned.length > coordinate || isZero(unsigned)) {
      throw new FormatError("signature.ecdsa", `${what}: value out of range`);
    }
    out.set(unsigned, (index + 1) * coordinate - unsigned.length);
  });
  return out;
}
function wrongAlgorithm(wanted, named) {
  return new FormatError("signature.algorithm", `expected ${wanted}, found algorithm ${named}`);
}
var answers = /* @__PURE__ */ new Map();
var keys = /* @__PURE__ */ new Map();
var MAX_REMEMBERED2 = 256;
function remembered2(memory, id, compute) {
  const known2 = memory.get(id);
  if (known2 !== void 0) return known2;
  const [oldest] = memory.keys();
  if (memory.size >= MAX_REMEMBERED2 && oldest !== void 0) memory.delete(oldest);
  const answer = compute();
  memory.set(id, answer);
  answer.catch(() => memory.delete(id));
  return answer;
}

// verifier/tdx/enclave-report.ts
var ENCLAVE_REPORT_BYTES = 384;
function parseEnclaveReport(bytes) {
  const reader = new ByteReader(bytes, "QE report");
  const cpuSvn = reader.take(16);
  const miscSelect = reader.take(4);
  reader.take(28);
  const attributes = reader.take(16);
  const mrEnclave = reader.take(32);
  reader.take(32);
  const mrSigner = reader.take(32);
  reader.take(96);
  const isvProdId = reader.u16le();
  const isvSvn = reader.u16le();
  reader.take(60);
  const reportData = reader.take(64);
  reader.end();
  return { cpuSvn, miscSelect, attributes, mrEnclave, mrSigner, isvProdId, isvSvn, reportData };
}
function isDebugEnclave(report) {
  return ((report.attributes[0] ?? 0) & 2) !== 0;
}

// verifier/tdx/certification-data.ts
var CERTIFICATION_QE_REPORT = 6;
var CERTIFICATION_PCK_CHAIN = 5;
var NAMES = {
  1: "plain PPID",
  2: "PPID encrypted with RSA-2048",
  3: "PPID encrypted with RSA-3072",
  4: "PCK leaf certificate alone",
  5: "PCK certificate chain",
  6: "QE report",
  7: "platform manifest"
};
function parseQeReportCertification(bytes) {
  const reader = new ByteReader(bytes, "QE report certification data");
  const qeReportBytes = reader.take(ENCLAVE_REPORT_BYTES);
  const qeReportSignature = reader.take(64);
  const authData = reader.take(reader.u16le());
  const innerType = reader.u16le();
  const innerData = reader.take(reader.u32le());
  reader.end();
  const qeReport = parseEnclaveReport(qeReportBytes);
  return { qeReport, qeReportBytes, qeReportSignature, authData, innerType, innerData };
}
function certificationName(type) {
  const name = NAMES[type];
  return name === void 0 ? `${type} (unknown)` : `${type} (${name})`;
}
function readCertificateChain(data) {
  if (!looksLikePem(data)) return splitDer(data).map(parseCertificate);
  return readPem(data).map(({ label, der }) => {
    if (label !== "CERTIFICATE") throw new FormatError("tdx.pck.label", `PCK chain: unexpected ${label} block`);
    return parseCertificate(der);
  });
}
var MAX_CHAIN = 8;
function splitDer(data) {
  const out = [];
  for (let offset = 0; offset < data.length; ) {
    const long = data[offset] === TAG.sequence && data[offset + 1] === 130;
    const length2 = 4 + (data[offset + 2] ?? 0) * 256 + (data[offset + 3] ?? 0);
    if (!long || offset + length2 > data.length || out.length === MAX_CHAIN) {
      throw new FormatError("tdx.pck.chain", `PCK chain: no certificate at offset ${offset}`);
    }
    out.push(data.subarray(offset, offset + length2));
    offset += length2;
  }
  return out;
}

// verifier/roots.ts
var PINNED_ROOTS = [
  {
    kind: "snp",
    product: "Milan",
    name: "ARK-Milan",
    spkiSha256Hex: "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9",
    source: "kdsintf.amd.com/vcek/v1/Milan/cert_chain",
    since: "2020-10-22"
  },
  {
    kind: "snp",
    product: "Genoa",
    name: "ARK-Genoa",
    spkiSha256Hex: "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831",
    source: "kdsintf.amd.com/vcek/v1/Genoa/cert_chain",
    since: "2022-01-26"
  },
  {
    kind: "snp",
    product: "Turin",
    name: "ARK-Turin",
    spkiSha256Hex: "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08",
    source: "kdsintf.amd.com/vcek/v1/Turin/cert_chain",
    since: "2023-05-15"
  },
  // Intel SGX Root CA (Intel "SGX PCK Certificate and CRL Profile" 1.5 §3): P-256, to 2049; compared as above.
  {
    kind: "tdx",
    name: "Intel SGX Root CA",
    spkiSha256Hex: "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e",
    source: "certificates.trustedservices.intel.com/IntelSGXRootCA.der",
    since: "2018-05-21"
  },
  // NVIDIA has one root for devices and another for reference manifests; neither may answer for the other. P-384. Two
  // self-signed certificates of the device root's key are published.
  {
    kind: "nvidia",
    product: "device",
    name: "NVIDIA Device Identity CA",
    spkiSha256Hex: "a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4",
    source: "github.com/NVIDIA/nvtrust guest_tools/gpu_verifiers/local_gpu_verifier/src/verifier/certs",
    since: "2020-01-01"
  },
  {
    kind: "nvidia",
    product: "rim",
    name: "NVIDIA CoRIM signing Root CA",
    spkiSha256Hex: "dec1dc316477aa851eebdf51327ae9f864bc8d89254657ed1e7eb9168af1e1a3",
    source: "github.com/NVIDIA/nvtrust guest_tools/gpu_verifiers/local_gpu_verifier/src/verifier/certs",
    since: "2023-03-16"
  }
];
var bySpki = new Map(PINNED_ROOTS.map((root) => [`${root.kind} ${root.spkiSha256Hex}`, root]));
function findPinnedRoot(kind, spkiSha256Hex) {
  return bySpki.get(`${kind} ${spkiSha256Hex}`);
}

// verifier/tdx/chain.ts
var SCHEME = "ecdsa-p256-sha256";
var ROOT_NAME = "Intel SGX Root CA";
var LEAF_NAME = "Intel SGX PCK Certificate";
var SIGNER_NAME = "Intel SGX TCB Signing";
var PCK_AUTHORITIES = ["Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"];
var MAX_CANDIDATES = 16;
function readPckChain(quote) {
  const [leaf, intermediate, root, ...extra] = readCertificateChain(quote.certification?.innerData ?? new Uint8Array());
  if (leaf === void 0 || intermediate === void 0 || root === void 0 || extra.length > 0) {
    throw new FormatError("tdx.pck.chain", "PCK chain: expected exactly three certificates");
  }
  return { leaf, intermediate, root };
}
function trustRoot(root, anchors) {
  const detail = { actual: `${root.subjectCommonName ?? "root"}, key ${root.spkiSha256Hex}` };
  if (findPinnedRoot("tdx", root.spkiSha256Hex) !== void 0) return pass({ pinned: true }, detail);
  const added = anchors.some(({ kind, spkiSha256Hex }) => kind === "tdx" && spkiSha256Hex === root.spkiSha256Hex);
  return added ? pass({ pinned: false }, detail) : fail("the chain does not end in a trusted Intel root key", detail);
}
function checkRoles({ leaf, intermediate, root }) {
  const names = [leaf, intermediate, root].map(({ subjectCommonName }) => subjectCommonName ?? "?").join(" \u2190 ");
  const detail = { expected: `${LEAF_NAME} \u2190 ${PCK_AUTHORITIES.join(" or ")} \u2190 ${ROOT_NAME}`, actual: names };
  const named = leaf.subjectCommonName === LEAF_NAME && PCK_AUTHORITIES.includes(intermediate.subjectCommonName ?? "") && root.subjectCommonName === ROOT_NAME;
  if (!named) return fail("the certificates are not a PCK chain in order", detail);
  if (!namesIssuer(leaf, intermediate) || !namesIssuer(intermediate, root) || !namesIssuer(root, root)) {
    return fail("a certificate names another issuer than the next one in the chain", detail);
  }
  if (!isAuthority(intermediate) || !isAuthority(root)) return fail("an issuer is not a certificate authority", detail);
  if (!isEndEntity(leaf)) return fail("the PCK certificate may issue certificates", detail);
  const critical = [leaf, intermediate, root].flatMap((certificate) => unknownCritical(certificate));
  return critical.length === 0 ? pass() : fail(`unknown critical extension ${critical.join(", ")}`);
}
async function verifyChain({ leaf, intermediate, root }) {
  const links = [
    [root, root],
    [intermediate, root],
    [leaf, intermediate]
  ];
  const valid = await Promise.all(links.map(([subject, issuer]) => isSignedBy(subject, issuer, SCHEME)));
  const broken = links.filter((_, index) => valid[index] !== true).map(([subject]) => subject.subjectCommonName ?? "?");
  return broken.length === 0 ? pass() : fail(`not signed by its issuer with ECDSA P-256 and SHA-256: ${broken.join(", ")}`);
}
function checkValidity(certificates2, now) {
  const outside = certificates2.find((certificate) => !inValidity(certificate, now));
  if (outside === void 0) return pass();
  const which = outside.subjectCommonName ?? "certificate";
  return fail(`${which} is ${now < outside.notBefore ? "not valid yet" : "no longer valid"}`, {
    expected: now.toISOString(),
    actual: `${outside.notBefore.toISOString()} to ${outside.notAfter.toISOString()}`
  });
}
async function findSigners(pool, root, now) {
  const candidates = preferCertificates(
    pool.certificates.filter(({ subjectCommonName }) => subjectCommonName === SIGNER_NAME),
    now
  ).slice(0, MAX_CANDIDATES);
  if (candidates.length === 0) return unavailable(`no certificate "${SIGNER_NAME}" at hand`);
  const judged = await Promise.all(
    candidates.map(async (candidate) => ({
      candidate,
      issued: namesIssuer(candidate, root) && await isSignedBy(candidate, root, SCHEME)
    }))
  );
  const faults = judged.map(({ candidate, issued }) => signerFault(candidate, issued, now));
  const fit = candidates.filter((_, index) => faults[index] === void 0);
  if (fit.length === 0) return fail(faults.find((fault) => fault !== void 0) ?? "unfit");
  const forged = judged.some(({ candidate, issued }) => !issued && fit.some((signer) => isNamesake(candidate, signer)));
  return forged ? fail("a TCB Signing certificate at hand is forged: its signature is not this root\u2019s") : pass(fit);
}
function isNamesake(a, b) {
  return a.spkiSha256Hex === b.spkiSha256Hex || equalBytes(a.issuer, b.issuer) && a.serialHex === b.serialHex;
}
function signerFault(candidate, issued, now) {
  if (!issued) return "the TCB Signing certificate is not signed by this root";
  if (!isEndEntity(candidate)) return "the TCB Signing certificate may issue certificates";
  if (unknownCritical(candidate).length > 0) return "the TCB Signing certificate has an unknown critical extension";
  if (inValidity(candidate, now)) return void 0;
  const period2 = `${candidate.notBefore.toISOString()} to ${candidate.notAfter.toISOString()}`;
  return `the TCB Signing certificate holds ${period2}, not at ${now.toISOString()}`;
}
function isAuthority({ isCa, keyUsage }) {
  return isCa && keyUsage?.certSign === true;
}
function isEndEntity({ isCa, keyUsage }) {
  return !isCa && keyUsage?.certSign !== true;
}

// verifier/tdx/evidence.ts
var MAX_JSON_BYTES = 8 * 1024 * 1024;
var OPEN_BRACE2 = 123;
function readTdxEvidence(input2) {
  const bytes = toBytes(input2);
  if (!looksLikeJson(bytes)) return { quote: bytes };
  if (bytes.length > MAX_JSON_BYTES) throw malformed3(`${bytes.length} bytes`);
  const top = members(bytes);
  const { quote, event_log: eventLog, td_quote: tdQuote, hcl_report: hclReport } = top;
  if (typeof tdQuote === "string" && typeof hclReport === "string") {
    return { quote: fromEitherBase64(tdQuote), hcl: readHclTdxEnvelope(fromEitherBase64(hclReport)) };
  }
  if (typeof quote !== "string") throw malformed3("expected quote, or td_quote and hcl_report");
  const text = typeof eventLog === "string" ? eventLog : eventLog === void 0 ? void 0 : JSON.stringify(eventLog);
  return { quote: fromHex(quote.replace(/^0x/, "")), ...text === void 0 ? {} : { eventLog: utf8(text) } };
}
function looksLikeTdxContainer(bytes) {
  if (!looksLikeJson(bytes) || bytes.length > MAX_JSON_BYTES) return false;
  try {
    const top = members(toBytes(bytes));
    return typeof top["td_quote"] === "string" || typeof top["quote"] === "string" && "event_log" in top;
  } catch (error) {
    if (error instanceof FormatError) return false;
    throw error;
  }
}
function carriesHcl(bytes) {
  return looksLikeTdxContainer(bytes) && typeof members(toBytes(bytes))["hcl_report"] === "string";
}
function looksLikeJson(bytes) {
  return bytes.find((byte) => byte > 32) === OPEN_BRACE2;
}
function members(bytes) {
  let value;
  try {
    value = JSON.parse(fromUtf8(bytes));
  } catch (cause) {
    throw new FormatError("tdx.evidence.json", "TDX evidence: not JSON", { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed3("not an object");
  return value;
}
function fromEitherBase64(text) {
  return fromBase64Url(
    text.replaceAll("+", "-").replaceAll("/", "_").replace(/={1,2}$/, "")
  );
}
function malformed3(reason) {
  return new FormatError("tdx.evidence.malformed", `TDX evidence: ${reason}`);
}

// verifier/tdx/pck.ts
var SGX_EXTENSION_OID = "1.2.840.113741.1.13.1";
var SGX_TYPES = ["Standard", "Scalable", "ScalableWithIntegrity"];
var COMPONENTS = 16;
var MAX_SVN = 65535;
function readPckClaims(certificate) {
  const extension = certificate.extensions.get(SGX_EXTENSION_OID);
  if (extension === void 0) throw new FormatError("tdx.pck.extension", "the SGX extension is missing");
  const members2 = readMembers(
    readDer(extension.value, "SGX extension"),
    SGX_EXTENSION_OID,
    ["1", "2", "3", "4"],
    ["5", "6", "7"]
  );
  const tcb = readMembers(members2.get("2"), `${SGX_EXTENSION_OID}.2`, TCB_MEMBERS, []);
  const type = members2.get("5");
  const instance = members2.get("6");
  const configuration = members2.get("7");
  return {
    ppid: octets(members2.get("1"), 16, "PPID"),
    components: TCB_MEMBERS.slice(0, COMPONENTS).map((name) => svn(tcb.get(name), `TCB component ${name}`)),
    pceSvn: svn(tcb.get("17"), "PCESVN"),
    cpuSvn: octets(tcb.get("18"), 16, "CPUSVN"),
    pceId: octets(members2.get("3"), 2, "PCEID"),
    fmspc: octets(members2.get("4"), 6, "FMSPC"),
    ...type === void 0 ? {} : { sgxType: sgxType(type) },
    ...instance === void 0 ? {} : { platformInstanceId: octets(instance, 16, "platform instance id") },
    ...configuration === void 0 ? {} : { configuration: readConfiguration(configuration) }
  };
}
var TCB_MEMBERS = Array.from({ length: COMPONENTS + 2 }, (_, index) => String(index + 1));
function readMembers(list, oid, required, optional3) {
  const out = /* @__PURE__ */ new Map();
  for (const item of childrenOf(expectTag(list, TAG.sequence, "SGX extension"), "SGX extension")) {
    const [name, value, ...extra] = childrenOf(expectTag(item, TAG.sequence, "SGX extension"), "SGX extension");
    const dotted = oidText(name, "SGX extension");
    const member = dotted.startsWith(`${oid}.`) ? dotted.slice(oid.length + 1) : "";
    if (value === void 0 || extra.length > 0 || !(required.includes(member) || optional3.includes(member))) {
      throw new FormatError("tdx.pck.extension", `SGX extension: unexpected member ${dotted}`);
    }
    if (out.has(member)) throw new FormatError("tdx.pck.extension", `SGX extension: member ${dotted} appears twice`);
    out.set(member, value);
  }
  const missing = required.find((member) => !out.has(member));
  if (missing !== void 0)
    throw new FormatError("tdx.pck.extension", `SGX extension: member ${oid}.${missing} is missing`);
  return out;
}
function readConfiguration(element) {
  const members2 = readMembers(element, `${SGX_EXTENSION_OID}.7`, [], ["1", "2", "3"]);
  const flag = (name, member) => {
    const value = members2.get(member);
    return value === void 0 ? {} : { [name]: expectTag(value, TAG.boolean, name).content[0] === 255 };
  };
  return { ...flag("dynamicPlatform", "1"), ...flag("cachedKeys", "2"), ...flag("smtEnabled", "3") };
}
function sgxType(element) {
  const { content } = expectTag(element, TAG.enumerated, "SGX type");
  const type = content.length === 1 ? SGX_TYPES[content[0] ?? SGX_TYPES.length] : void 0;
  if (type === void 0) throw new FormatError("tdx.pck.extension", `SGX type: unknown value ${toHex(content)}`);
  return type;
}
function octets(element, length2, what) {
  const { content } = expectTag(element, TAG.octetString, what);
  if (content.length === length2) return content;
  throw new FormatError("tdx.pck.extension", `${what}: expected ${length2} bytes, found ${content.length}`);
}
function svn(element, what) {
  const value = smallInteger(element, what);
  if (value <= MAX_SVN) return value;
  throw new FormatError("tdx.pck.extension", `${what}: ${value} is above ${MAX_SVN}`);
}

// verifier/tdx/tcb.ts
function sortLevels(levels) {
  const key = ({ tcb }) => [...tcb.sgxtcbcomponents, tcb.pcesvn, ...tcb.tdxtcbcomponents];
  return [...levels].sort((a, b) => compareDescending(key(a), key(b)));
}
function matchPlatform(info, pck, teeTcbSvn) {
  const levels = sortLevels(info.tcbLevels);
  const from = (teeTcbSvn[1] ?? 0) > 0 ? 2 : 0;
  const sgx = levels.filter(({ tcb }) => reaches(pck.components, tcb.sgxtcbcomponents) && pck.pceSvn >= tcb.pcesvn);
  const level = sgx.find(({ tcb }) => reaches([...teeTcbSvn], tcb.tdxtcbcomponents, from));
  return { ...componentOf(level, levels), sgxStatus: sgx[0]?.tcbStatus ?? "Unmatched" };
}
function matchModule(info, report) {
  const version = report.teeTcbSvn[1] ?? 0;
  if (version === 0) {
    const fault2 = identityFault(info.tdxModule, report);
    return fault2 ?? { identity: "matched", module: void 0 };
  }
  const id = moduleIdentityId(version);
  const known2 = info.tdxModuleIdentities ?? [];
  const identity = known2.find((candidate) => candidate.id === id);
  if (identity === void 0) {
    const listed = known2.map((candidate) => candidate.id).join(", ") || "no module identities";
    return { identity: "mismatched", reason: "Intel lists no module of this version", expected: listed, actual: id };
  }
  const fault = identityFault(identity, report);
  return fault ?? {
    identity: "matched",
    module: { ...matchIsv(identity.tcbLevels, report.teeTcbSvn[0] ?? 0), identityId: id }
  };
}
function matchQe(identity, qe) {
  return matchIsv(identity.tcbLevels, qe.isvSvn);
}
function converge(info, report, parts) {
  const { platform, module, qe } = parts;
  const components2 = [platform, ...module === void 0 ? [] : [module], qe];
  const withModule = worst([platform.status, ...module === void 0 ? [] : [module.status]]);
  const relaunch = relaunchWouldHelp(info, report, parts);
  const status = relaunch ? relaunched(withModule) : worst([withModule, qe.status]);
  const tcbDate = earliest(components2.flatMap((component) => component.tcbDate ?? []));
  const outdatedSince = earliest(components2.flatMap((component) => component.outdatedSince ?? []));
  return {
    ...parts,
    status,
    advisoryIds: [...new Set(components2.flatMap((component) => component.advisoryIds))].sort(),
    ...tcbDate === void 0 ? {} : { tcbDate },
    ...outdatedSince === void 0 ? {} : { outdatedSince },
    relaunchAdvised: relaunch
  };
}
var MEANING = {
  UpToDate: [],
  SWHardeningNeeded: ["hardening"],
  ConfigurationNeeded: ["configuration"],
  ConfigurationAndSWHardeningNeeded: ["configuration", "hardening"],
  OutOfDate: ["outdated"],
  OutOfDateConfigurationNeeded: ["outdated", "configuration"],
  Revoked: ["revoked"]
};
function worst(statuses) {
  const said = new Set(statuses.flatMap((status) => status === "Unmatched" ? [] : MEANING[status]));
  if (said.has("revoked")) return "Revoked";
  if (statuses.includes("Unmatched")) return "Unmatched";
  const configuration = said.has("configuration");
  if (said.has("outdated")) return configuration ? "OutOfDateConfigurationNeeded" : "OutOfDate";
  if (said.has("hardening")) return configuration ? "ConfigurationAndSWHardeningNeeded" : "SWHardeningNeeded";
  return configuration ? "ConfigurationNeeded" : "UpToDate";
}
var CURRENT = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded"
];
function relaunchWouldHelp(info, { teeTcbSvn2 }, { platform, module, qe }) {
  const [newest] = sortLevels(info.tcbLevels);
  if (teeTcbSvn2 === void 0 || newest === void 0) return false;
  if (worst([platform.status, module?.status ?? "UpToDate"]).startsWith("OutOfDate") === false) return false;
  if (module?.status !== "OutOfDate" || !CURRENT.includes(platform.sgxStatus) || !CURRENT.includes(qe.status))
    return false;
  const [isvSvn = 0, version = 0, microcode = 0] = teeTcbSvn2;
  const [newestModule = 0, , newestMicrocode = 0] = newest.tcb.tdxtcbcomponents;
  if (microcode < newestMicrocode) return false;
  if (version === 0) return isvSvn >= newestModule;
  const identity = info.tdxModuleIdentities?.find(({ id }) => id === moduleIdentityId(version));
  const [latest] = sortIsvLevels(identity?.tcbLevels ?? []);
  return latest !== void 0 && isvSvn >= latest.tcb.isvsvn;
}
function relaunched(status) {
  return status === "OutOfDateConfigurationNeeded" ? "TDRelaunchAdvisedConfigurationNeeded" : "TDRelaunchAdvised";
}
function moduleIdentityId(version) {
  return `TDX_${version.toString(16).padStart(2, "0").toUpperCase()}`;
}
function identityFault(identity, report) {
  const { mrsigner, attributes, attributesMask } = identity;
  if (!equalBytes(report.mrSignerSeam, mrsigner)) {
    return mismatch("MRSIGNERSEAM is not the signer Intel lists", mrsigner, report.mrSignerSeam);
  }
  const outside = report.seamAttributes.map((byte, index) => byte & ~(attributesMask[index] ?? 0));
  if (isZero(outside) && maskedEqual(report.seamAttributes, attributes, attributesMask)) return void 0;
  return mismatch("SEAMATTRIBUTES are not those Intel lists", attributes, report.seamAttributes);
}
function mismatch(reason, expected, actual) {
  return { identity: "mismatched", reason, expected: toHex(expected), actual: toHex(actual) };
}
function maskedEqual(actual, expected, mask) {
  const masked2 = (bytes) => bytes.map((byte, index) => byte & (mask[index] ?? 0));
  return actual.length === expected.length && mask.length === actual.length && equalBytes(masked2(actual), masked2(expected));
}
function matchIsv(levels, isvSvn) {
  const sorted = sortIsvLevels(levels);
  return componentOf(
    sorted.find(({ tcb }) => isvSvn >= tcb.isvsvn),
    sorted
  );
}
function sortIsvLevels(levels) {
  return [...levels].sort((a, b) => b.tcb.isvsvn - a.tcb.isvsvn);
}
function componentOf(level, sorted) {
  if (level === void 0) return { status: "Unmatched", advisoryIds: [] };
  const { tcbStatus, tcbDate, advisoryIDs } = level;
  const newer = sorted.slice(0, sorted.indexOf(level)).flatMap((other) => other.tcbDate > tcbDate ? other.tcbDate : []);
  const outdatedSince = tcbStatus.startsWith("OutOfDate") ? earliest(newer) : void 0;
  return {
    status: tcbStatus,
    advisoryIds: advisoryIDs,
    tcbDate,
    ...outdatedSince === void 0 ? {} : { outdatedSince }
  };
}
function reaches(actual, required, from = 0) {
  return required.every((svn3, index) => index < from || (actual[index] ?? -1) >= svn3);
}
function compareDescending(a, b) {
  for (let i = 0; i < a.length; i++) {
    const difference = (b[i] ?? 0) - (a[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
function earliest(dates) {
  return [...dates].sort((a, b) => a.getTime() - b.getTime())[0];
}

// verifier/tdx/qe.ts
function matchKeyBinding(quote, { qeReport, authData }) {
  const expected = concat(sha256(concat(quote.attestationKey, authData)), new Uint8Array(32));
  if (equalBytes(qeReport.reportData, expected)) return pass();
  return fail("the QE report names another attestation key", {
    expected: toHex(expected),
    actual: toHex(qeReport.reportData)
  });
}
function matchQeIdentity(qe, identity) {
  if (!equalBytes(qe.mrSigner, identity.mrsigner)) {
    return fail("MRSIGNER is not Intel\u2019s", { expected: toHex(identity.mrsigner), actual: toHex(qe.mrSigner) });
  }
  if (qe.isvProdId !== identity.isvprodid) {
    return fail("ISVPRODID is another enclave\u2019s", {
      expected: String(identity.isvprodid),
      actual: String(qe.isvProdId)
    });
  }
  if (!maskedEqual(qe.miscSelect, identity.miscselect, identity.miscselectMask)) {
    const detail = { expected: masked(identity.miscselect, identity.miscselectMask), actual: toHex(qe.miscSelect) };
    return fail("MISCSELECT differs", detail);
  }
  if (!maskedEqual(qe.attributes, identity.attributes, identity.attributesMask)) {
    const detail = { expected: masked(identity.attributes, identity.attributesMask), actual: toHex(qe.attributes) };
    return fail("ATTRIBUTES differ", detail);
  }
  return pass();
}
function masked(value, mask) {
  return `${toHex(value)} under ${toHex(mask)}`;
}

// verifier/tdx/quote.ts
var TEE_TYPE_SGX = 0;
var TEE_TYPE_TDX = 129;
var KEY_TYPE_ECDSA_P256 = 2;
var BODY_TYPE = { sgx: 1, td10: 2, td15: 3 };
var INTEL_QE_VENDOR_ID = fromHex("939a7233f79c4ca9940a0db3957f0607");
var HEADER_BYTES2 = 48;
var MAX_QUOTE_BYTES = 64 * 1024;
var KNOWN_VERSIONS = [3, 4, 5];
function parseQuoteHeader(bytes) {
  if (bytes.length > MAX_QUOTE_BYTES) {
    throw new FormatError("tdx.quote.size", `quote: ${bytes.length} bytes, at most ${MAX_QUOTE_BYTES}`);
  }
  const reader = new ByteReader(bytes, "quote");
  const version = reader.u16le();
  const attestationKeyType = reader.u16le();
  const teeType = reader.u32le();
  const reserved = reader.take(4);
  const qeVendorId = reader.take(16);
  const userData = reader.take(20);
  if (!KNOWN_VERSIONS.includes(version) && !equalBytes(qeVendorId, INTEL_QE_VENDOR_ID)) {
    const rawReport = bytes.length === 1024 ? ": 1024 bytes are a raw TDREPORT, which nobody signed" : "";
    throw new FormatError("tdx.quote.header", `not an attestation quote${rawReport}`);
  }
  const header = { version, attestationKeyType, teeType, reserved, qeVendorId, userData };
  return version === 5 ? { ...header, bodyType: reader.u16le() } : header;
}
function isReadable(header) {
  const { version, bodyType } = header;
  const body = version === 4 || version === 5 && (bodyType === BODY_TYPE.td10 || bodyType === BODY_TYPE.td15);
  return body && header.teeType === TEE_TYPE_TDX && header.attestationKeyType === KEY_TYPE_ECDSA_P256;
}
function parseTdxQuote(input2) {
  const bytes = toBytes(input2);
  const header = parseQuoteHeader(bytes);
  if (!isReadable(header)) {
    const { version, teeType, attestationKeyType, bodyType } = header;
    throw new FormatError(
      "tdx.quote.unsupported",
      `quote: version ${version}, TEE type ${teeType}, key type ${attestationKeyType}, body type ${bodyType ?? "implied"}`
    );
  }
  const reader = new ByteReader(bytes, "quote");
  reader.take(HEADER_BYTES2);
  const report = parseTdReport(reader.take(bodyLength(header, reader)));
  const signedBytes = new Uint8Array(bytes.subarray(0, reader.offset));
  const signatureData = reader.take(reader.u32le());
  const data = new ByteReader(signatureData, "quote signature data");
  const signature = data.take(64);
  const attestationKey = data.take(64);
  const certificationType = data.u16le();
  const certification = data.take(data.u32le());
  data.end();
  return {
    header,
    report,
    signedBytes,
    signature,
    attestationKey,
    certificationType,
    ...certificationType === CERTIFICATION_QE_REPORT ? { certification: parseQeReportCertification(certification) } : {},
    trailingBytes: reader.remaining
  };
}
function bodyLength(header, reader) {
  if (header.version === 4) return TD_REPORT_10_BYTES;
  const type = reader.u16le();
  const size = reader.u32le();
  const expected = type === BODY_TYPE.td15 ? TD_REPORT_15_BYTES : TD_REPORT_10_BYTES;
  if (size !== expected) {
    throw new FormatError("tdx.quote.body-size", `quote: body type ${type} has ${expected} bytes, found ${size}`);
  }
  return size;
}

// verifier/tdx/revocation.ts
var MAX_CANDIDATES2 = 16;
async function checkCrl(t, name, issuer, kin, input2) {
  const { mode, pool, now } = input2;
  const named = pool.crls.filter((list) => equalBytes(list.issuer, issuer.subject));
  const strange = pool.crls.filter(({ issuerCommonName }) => kin.includes(issuerCommonName ?? ""));
  const reason = giveUp(mode, named.length > 0 ? named : strange, issuer, now);
  const candidates = reason === void 0 ? await judge(preferRevocationLists(named, now).slice(0, MAX_CANDIDATES2), issuer) : [];
  const rank = ({ list, fault, signed: signed2 }) => Number(fault === void 0) * 4 + Number(signed2) * 2 + Number(inWindow(list, now));
  const best2 = [...candidates].sort((a, b) => rank(b) - rank(a))[0];
  const find = (judgement) => {
    return () => {
      if (reason !== void 0) return waived(reason);
      return best2 === void 0 ? absent(pool, issuer, strange[0]) : judgement(best2);
    };
  };
  const subject = issuer.subjectCommonName ?? "the issuer";
  t.check(
    `tdx.crl.${name}-issuer`,
    find(({ fault }) => fault === void 0 ? pass() : fail(fault))
  );
  t.check(
    `tdx.crl.${name}-signature`,
    find(({ signed: signed2 }) => signed2 ? pass() : fail(`the CRL is not signed by ${subject} with ECDSA P-256 and SHA-256`))
  );
  t.check(
    `tdx.crl.${name}-window`,
    find(({ list }) => withinWindow(list, now))
  );
  if (reason !== void 0) return { waivedBecause: reason };
  return best2 !== void 0 && t.passed(`tdx.crl.${name}-window`) ? { list: best2.list } : void 0;
}
function notRevoked(certificates2, outcome2) {
  if (outcome2 === void 0) return fail("no usable CRL");
  if ("waivedBecause" in outcome2) return waived(outcome2.waivedBecause);
  const revoked = certificates2.filter(({ serialHex }) => outcome2.list.revokedSerials.has(serialHex));
  if (revoked.length === 0) return pass();
  const names = revoked.map(({ subjectCommonName, serialHex }) => `${subjectCommonName ?? "?"} (serial ${serialHex})`);
  return fail("the certificate is revoked", { actual: names.join(", ") });
}
function giveUp(mode, lists2, issuer, now) {
  if (mode === "off") return "revocation: off";
  if (mode === "required" || lists2.some((list) => inWindow(list, now))) return void 0;
  const subject = issuer.subjectCommonName ?? "the issuer";
  const [stale] = preferRevocationLists(lists2, now);
  return stale === void 0 ? `revocation: available; no CRL of ${subject} at hand` : `revocation: available; the CRL of ${subject} holds ${period(stale)}, not at ${now.toISOString()}`;
}
function absent(pool, issuer, strange) {
  const subject = issuer.subjectCommonName ?? "the issuer";
  if (strange !== void 0) {
    return fail("the CRL is another authority\u2019s", { expected: subject, actual: strange.issuerCommonName ?? "?" });
  }
  const unread = pool.unrecognised.slice(0, 4).map(({ name, reason }) => `${name}: ${reason}`);
  const hint = unread.length === 0 ? "" : `; not recognised: ${unread.join("; ")}`;
  return unavailable(`no CRL of ${subject} at hand${hint}`);
}
async function judge(lists2, issuer) {
  return Promise.all(
    lists2.map(async (list) => ({
      list,
      fault: faultOf(list, issuer),
      signed: await isSignedBy(list, issuer, "ecdsa-p256-sha256")
    }))
  );
}
function faultOf(list, issuer) {
  try {
    return strangeness(list, issuer);
  } catch (error) {
    if (error instanceof FormatError) return error.message;
    throw error;
  }
}
function strangeness(list, issuer) {
  const critical = unknownCritical(list, []);
  if (critical.length > 0) return `the CRL is partial or indirect: critical extension ${critical.join(", ")}`;
  if (issuer.keyUsage?.crlSign !== true) return "the issuer may not sign CRLs";
  const wanted = subjectKeyId(issuer);
  const named = authorityKeyId(list);
  if (wanted === void 0 || named === void 0 || equalBytes(wanted, named)) return void 0;
  return "the CRL names another issuer key";
}
function withinWindow(list, now) {
  const detail = { expected: now.toISOString(), actual: period(list) };
  if (inWindow(list, now)) return pass(void 0, detail);
  return fail(now < list.thisUpdate ? "the CRL is not in force yet" : "the CRL has expired", detail);
}
function period(list) {
  return `${list.thisUpdate.toISOString()} to ${list.nextUpdate.toISOString()}`;
}

// verifier/tdx/authenticity.ts
function checkForm(t, bytes) {
  const read2 = t.check("tdx.quote.parse", () => {
    const evidence2 = readTdxEvidence(bytes);
    const header2 = parseQuoteHeader(evidence2.quote);
    return pass({ evidence: evidence2, header: header2, quote: isReadable(header2) ? parseTdxQuote(evidence2.quote) : void 0 });
  });
  if (read2 === void 0) return void 0;
  const { evidence, header, quote } = read2;
  t.check("tdx.quote.version", () => {
    const detail = { expected: "4 or 5", actual: String(header.version) };
    if (header.version === 4 || header.version === 5) return pass(void 0, detail);
    return fail(header.version === 3 ? "version 3 is an SGX quote" : "unknown quote version", detail);
  });
  t.check("tdx.quote.tee-type", () => checkTeeType(header));
  t.check("tdx.quote.key-type", () => {
    const detail = { expected: `${KEY_TYPE_ECDSA_P256} (ECDSA P-256)`, actual: String(header.attestationKeyType) };
    return header.attestationKeyType === KEY_TYPE_ECDSA_P256 ? pass(void 0, detail) : fail("the attestation key is of another kind", detail);
  });
  t.check("tdx.quote.qe-vendor", () => {
    const detail = { expected: toHex(INTEL_QE_VENDOR_ID), actual: toHex(header.qeVendorId) };
    return equalBytes(header.qeVendorId, INTEL_QE_VENDOR_ID) ? pass(void 0, detail) : fail("the quoting enclave is another vendor\u2019s", detail);
  });
  t.check("tdx.quote.certification", () => {
    const type = quote?.certificationType ?? 0;
    if (quote?.certification === void 0) {
      return fail(`certification data of type ${certificationName(type)} do not hold a QE report`, {
        expected: certificationName(CERTIFICATION_QE_REPORT)
      });
    }
    const { innerType } = quote.certification;
    if (innerType === CERTIFICATION_PCK_CHAIN) return pass();
    return fail(`the quote carries ${certificationName(innerType)} instead of its PCK certificate chain`, {
      expected: certificationName(CERTIFICATION_PCK_CHAIN)
    });
  });
  return quote === void 0 ? void 0 : { evidence, quote };
}
function checkTeeType({ teeType, bodyType }) {
  const body = bodyType === void 0 ? "" : `, body type ${bodyType}`;
  const detail = { expected: `0x${TEE_TYPE_TDX.toString(16)}`, actual: `0x${teeType.toString(16)}${body}` };
  if (teeType === TEE_TYPE_SGX) return fail("the quote speaks of an SGX enclave, not of a TD", detail);
  if (teeType !== TEE_TYPE_TDX) return fail("the quote speaks of an unknown kind of environment", detail);
  if (bodyType === void 0 || bodyType === BODY_TYPE.td10 || bodyType === BODY_TYPE.td15)
    return pass(void 0, detail);
  const kind = bodyType === BODY_TYPE.sgx ? "an SGX report" : "an unknown report";
  return fail(`the header speaks of a TD and the body is ${kind}`, detail);
}
async function checkChain(t, quote, anchors, now) {
  const chain = t.check("tdx.pck.parse", () => pass(readPckChain(quote)));
  if (chain === void 0) return void 0;
  const trust = t.check("tdx.pck.root", () => trustRoot(chain.root, anchors));
  t.check("tdx.pck.roles", () => checkRoles(chain));
  await t.checkAsync("tdx.pck.chain", () => verifyChain(chain));
  t.check("tdx.pck.validity", () => checkValidity([chain.leaf, chain.intermediate, chain.root], now));
  const pck = t.check("tdx.pck.extension", () => pass(readPckClaims(chain.leaf)));
  return { chain, trusted: trust !== void 0, pinned: trust?.pinned === true, pck };
}
async function checkPathRevocation(t, { leaf, intermediate, root }, input2) {
  const rootCrl = await checkCrl(t, "root", root, [root.subjectCommonName ?? ""], input2);
  t.check("tdx.crl.intermediate-status", () => notRevoked([intermediate], rootCrl));
  const pckCrl = await checkCrl(t, "pck", intermediate, PCK_AUTHORITIES, input2);
  t.check("tdx.crl.leaf-status", () => notRevoked([leaf], pckCrl));
  return { root: rootCrl, pck: pckCrl };
}
async function checkSignatures(t, quote, chain) {
  const { certification } = quote;
  if (certification === void 0) return;
  const qeSigned = chain === void 0 ? Promise.resolve(false) : isQeReportSigned(certification, chain);
  const quoteSigned = isQuoteSigned(quote);
  await t.checkAsync(
    "tdx.qe.signature",
    async () => await qeSigned ? pass() : fail("the PCK key did not sign this QE report")
  );
  t.check("tdx.qe.binding", () => matchKeyBinding(quote, certification));
  await t.checkAsync(
    "tdx.quote.signature",
    async () => await quoteSigned ? pass() : fail("the attestation key did not sign these bytes")
  );
  t.check(
    "tdx.qe.debug",
    () => isDebugEnclave(certification.qeReport) ? fail("the quoting enclave runs in debug mode") : pass()
  );
}
async function isQeReportSigned({ qeReportBytes, qeReportSignature }, { leaf }) {
  try {
    return await verifyP256(await importVerifyKey(leaf, "ecdsa-p256-sha256"), qeReportSignature, qeReportBytes);
  } catch (error) {
    if (error instanceof FormatError) return false;
    throw error;
  }
}
async function isQuoteSigned({ attestationKey, signature, signedBytes }) {
  const key = await importP256Point(attestationKey);
  return key !== void 0 && await verifyP256(key, signature, signedBytes);
}

// verifier/tdx/checks-authenticity.ts
var QUOTE = "Intel TDX DCAP Quoting Library API";
var PROFILE = "Intel SGX PCK Certificate and CRL Profile 1.5";
var AUTHENTICITY_CHECKS = [
  {
    id: "tdx.quote.parse",
    title: "The evidence is one attestation quote whose lengths add up",
    spec: `${QUOTE}, Quote Format`,
    gain: "Bytes around the quote could pass for part of what was signed.",
    advice: "Pass the quote itself; a raw TDREPORT is signed by nobody.",
    malformed: true
  },
  {
    id: "tdx.quote.version",
    title: "The quote is of version 4 or 5",
    spec: `${QUOTE}, Quote Header`,
    gain: "Fields of an unknown layout would be read as something they are not.",
    advice: "Update the verifier if quotes have moved on; version 3 is an SGX quote.",
    needs: ["tdx.quote.parse"]
  },
  {
    id: "tdx.quote.tee-type",
    title: "The quote speaks of a TD, in its header and in its body type",
    spec: `${QUOTE}, Quote Header; Quote Body Descriptor`,
    gain: "An SGX enclave, which anyone may write, could pass for a confidential VM.",
    needs: ["tdx.quote.version"]
  },
  {
    id: "tdx.quote.key-type",
    title: "The attestation key is ECDSA on P-256",
    spec: `${QUOTE}, Quote Header`,
    gain: "The signer could name an algorithm nobody checks.",
    needs: ["tdx.quote.tee-type"]
  },
  {
    id: "tdx.quote.qe-vendor",
    title: "The quoting enclave is Intel\u2019s, by its vendor id",
    spec: `${QUOTE}, Quote Header, QE Vendor ID`,
    gain: "Another vendor\u2019s enclave follows rules this verifier does not know.",
    needs: ["tdx.quote.key-type"]
  },
  {
    id: "tdx.quote.certification",
    title: "The certification data are a QE report with a PCK certificate chain inside",
    spec: `${QUOTE}, QE Certification Data`,
    gain: "Nothing would lead from the attestation key to Intel.",
    advice: "Ask the platform\u2019s owner to provision it for certification data of type 5.",
    needs: ["tdx.quote.key-type"]
  },
  {
    id: "tdx.pck.parse",
    title: "The PCK chain is exactly three well-formed certificates",
    spec: `${PROFILE} \xA73; RFC 5280 \xA74.1`,
    gain: "A chain could mean one thing to this verifier and another to the next.",
    needs: ["tdx.quote.certification"]
  },
  {
    id: "tdx.pck.root",
    title: "The chain ends in the pinned Intel root key, or in one your policy adds",
    spec: `${PROFILE} \xA73, Root CA`,
    gain: "Anyone could make a hierarchy with Intel\u2019s names and sign any quote.",
    advice: "Never work around this. For simulated hardware, add its root with --trust-anchor.",
    needs: ["tdx.pck.parse"]
  },
  {
    id: "tdx.pck.roles",
    title: "Leaf, intermediate and root are in order and each is what its place requires",
    spec: `${PROFILE} \xA73; RFC 5280 \xA74.2.1.3, \xA74.2.1.9`,
    gain: "A PCK key could issue certificates, or a collateral signer vouch for machines.",
    needs: ["tdx.pck.parse"]
  },
  {
    id: "tdx.pck.chain",
    title: "Every certificate of the chain is signed by the next with ECDSA P-256 and SHA-256",
    spec: `${PROFILE} \xA73; RFC 5280 \xA76.1`,
    gain: "Anyone could certify a key of their own as a platform\u2019s.",
    needs: ["tdx.pck.parse"]
  },
  {
    id: "tdx.pck.validity",
    title: "Every certificate of the chain is inside its validity",
    spec: "RFC 5280 \xA74.1.2.5",
    gain: "Keys that were retired could still sign.",
    advice: "Judge old evidence at its own time with --at.",
    needs: ["tdx.pck.parse"]
  },
  {
    id: "tdx.pck.extension",
    title: "The leaf\u2019s SGX extension is complete, strict DER and each member there once",
    spec: `${PROFILE} \xA74.2, SGX Extensions`,
    gain: "Leaving out or doubling a member would dodge the comparison that reads it.",
    needs: ["tdx.pck.parse"]
  },
  ...crlChecks("root", "the root", ["tdx.pck.root"]),
  {
    id: "tdx.crl.intermediate-status",
    title: "The intermediate is not revoked",
    spec: "RFC 5280 \xA76.3",
    gain: "An authority Intel has given up could still certify keys.",
    needs: ["tdx.crl.root-window"]
  },
  ...crlChecks("pck", "the intermediate that issued the leaf", ["tdx.pck.root", "tdx.pck.roles", "tdx.pck.chain"]),
  {
    id: "tdx.crl.leaf-status",
    title: "The PCK certificate is not revoked",
    spec: "RFC 5280 \xA76.3",
    gain: "A platform whose keys were extracted could still answer.",
    needs: ["tdx.crl.pck-window"]
  },
  {
    id: "tdx.qe.signature",
    title: "The QE report is signed by the PCK key, over the 384 received bytes",
    spec: `${QUOTE}, QE Report Certification Data`,
    gain: "Any program could claim to be the quoting enclave.",
    needs: ["tdx.pck.chain"]
  },
  {
    id: "tdx.qe.binding",
    title: "The QE report holds the hash of the attestation key and the auth data, then zeros",
    spec: `${QUOTE}, QE Report Certification Data, REPORTDATA`,
    gain: "A genuine QE report could be put beside an attacker\u2019s key.",
    needs: ["tdx.quote.certification"]
  },
  {
    id: "tdx.quote.signature",
    title: "The quote is signed by the attestation key, over the received bytes up to the end of the body",
    spec: `${QUOTE}, ECDSA 256-bit Quote Signature Data`,
    gain: "Every field could be invented.",
    advice: "Stop: the evidence was altered or signed by another key.",
    needs: ["tdx.quote.certification"]
  },
  {
    id: "tdx.qe.debug",
    title: "The quoting enclave does not run in debug mode",
    spec: "Intel SDM, SGX ATTRIBUTES",
    gain: "The attestation key could be read out of it.",
    needs: ["tdx.qe.signature"]
  }
];
function crlChecks(name, issuer, needs) {
  const list = name === "root" ? "The root CRL" : "The PCK CRL";
  return [
    {
      id: `tdx.crl.${name}-issuer`,
      title: `${list} is at hand, is the list of ${issuer}, and covers all it issued`,
      spec: `${PROFILE} \xA75; RFC 5280 \xA75.1.2.3, \xA75.2.1, \xA75.2.4, \xA75.2.5`,
      gain: "Another authority\u2019s list, a partial one, or none at all could stand in for the one that condemns a key.",
      advice: "Fetch the list from Intel, or say --revocation available and accept what that gives up.",
      needs
    },
    {
      id: `tdx.crl.${name}-signature`,
      title: `${list} is signed by ${issuer} with ECDSA P-256 and SHA-256`,
      spec: `${PROFILE} \xA75; RFC 5280 \xA76.3.3`,
      gain: "Anyone could write an empty list.",
      needs: [`tdx.crl.${name}-issuer`]
    },
    {
      id: `tdx.crl.${name}-window`,
      title: `${list} is current`,
      spec: "RFC 5280 \xA75.1.2.4, \xA75.1.2.5",
      gain: "A list from before the revocation could be replayed for ever.",
      advice: "Fetch the current list from Intel.",
      needs: [`tdx.crl.${name}-signature`]
    }
  ];
}

// verifier/tdx/checks-collateral.ts
var PCS = "Intel PCS API v4";
var QVL = "Intel SGX/TDX DCAP Quote Verification";
var COLLATERAL_CHECKS = [
  {
    id: "tdx.collateral.signer",
    title: "A TCB Signing certificate of the same root is at hand, in order and in validity",
    spec: `${PCS}, TCB-Info-Issuer-Chain, SGX-Enclave-Identity-Issuer-Chain`,
    gain: "Anyone could sign collateral that calls any platform current.",
    advice: "Pass the issuer chain that Intel\u2019s service sends beside the collateral.",
    needs: ["tdx.pck.root"]
  },
  {
    id: "tdx.crl.signer-status",
    title: "The TCB Signing certificate is not revoked",
    spec: "RFC 5280 \xA76.3",
    gain: "A signer Intel has given up could still vouch for platforms.",
    needs: ["tdx.collateral.signer", "tdx.crl.root-window"]
  },
  {
    id: "tdx.collateral.tcb-info",
    title: "TDX TCB info of version 3 is at hand and well-formed, without a member twice",
    spec: `${PCS}, Get TDX TCB Info; Appendix A, TCB info V3`,
    gain: "An SGX document, or one read two ways, could judge a TDX platform.",
    advice: "Fetch the TCB info for this platform\u2019s FMSPC from Intel, or pass it with --endorsements.",
    needs: ["tdx.quote.key-type"]
  },
  {
    id: "tdx.collateral.tcb-info-signature",
    title: "The TCB info is signed by the TCB Signing key, over the exact bytes served",
    spec: `${PCS}, TCB info signature`,
    gain: "Levels could be invented.",
    needs: ["tdx.collateral.signer", "tdx.collateral.tcb-info"]
  },
  {
    id: "tdx.collateral.tcb-info-window",
    title: "The TCB info is current",
    spec: `${PCS}, TCB info issueDate, nextUpdate`,
    gain: "Levels from before a vulnerability could be replayed for ever.",
    advice: "Fetch current collateral, or judge old evidence at its own time with --at.",
    needs: ["tdx.collateral.tcb-info"]
  },
  {
    id: "tdx.collateral.platform",
    title: "The TCB info is for the FMSPC and PCEID of the PCK certificate",
    spec: `${QVL}, TCB info verification`,
    gain: "Another processor\u2019s levels could judge this one.",
    needs: ["tdx.collateral.tcb-info", "tdx.pck.extension"]
  },
  {
    id: "tdx.collateral.qe-identity",
    title: "The identity of the TD quoting enclave, version 2, is at hand and well-formed, without a member twice",
    spec: `${PCS}, Get TDX QE Identity; Appendix, Enclave Identity V2`,
    gain: "The SGX quoting enclave\u2019s identity could stand in for the TD one.",
    advice: "Fetch the TD QE identity from Intel, or pass it with --endorsements.",
    needs: ["tdx.quote.key-type"]
  },
  {
    id: "tdx.collateral.qe-identity-signature",
    title: "The QE identity is signed by the TCB Signing key, over the exact bytes served",
    spec: `${PCS}, Enclave Identity signature`,
    gain: "Any enclave could be declared the quoting enclave.",
    needs: ["tdx.collateral.signer", "tdx.collateral.qe-identity"]
  },
  {
    id: "tdx.collateral.qe-identity-window",
    title: "The QE identity is current",
    spec: `${PCS}, Enclave Identity issueDate, nextUpdate`,
    gain: "A quoting enclave with a known hole could be called current for ever.",
    advice: "Fetch current collateral, or judge old evidence at its own time with --at.",
    needs: ["tdx.collateral.qe-identity"]
  },
  {
    id: "tdx.collateral.evaluation-number",
    title: "TCB info and QE identity are of one evaluation, and not of an older one than you accept",
    spec: `${PCS}, tcbEvaluationDataNumber`,
    gain: "An unexpired set from before the last recovery could call an unpatched platform current.",
    advice: "Fetch both documents again at the same time.",
    needs: ["tdx.collateral.tcb-info", "tdx.collateral.qe-identity"]
  },
  {
    id: "tdx.qe.identity",
    title: "The quoting enclave has the signer, product, MISCSELECT and ATTRIBUTES Intel lists",
    spec: `${QVL}, QE identity verification`,
    gain: "Any enclave that runs on the platform could sign quotes.",
    needs: ["tdx.qe.signature", "tdx.collateral.qe-identity-signature"]
  },
  {
    id: "tdx.tcb.platform",
    title: "The platform reaches a TCB level Intel lists",
    spec: `${QVL}, TCB level matching`,
    gain: "A platform older than everything Intel still knows could answer.",
    needs: ["tdx.quote.signature", "tdx.pck.chain", "tdx.collateral.tcb-info-signature", "tdx.collateral.platform"]
  },
  {
    id: "tdx.tcb.module",
    title: "The TDX module is one Intel lists, signed as listed, and reaches a level of it",
    spec: `${QVL}, TDX module identity and TCB level`,
    gain: "A module Intel never released could run the TD.",
    needs: ["tdx.quote.signature", "tdx.collateral.tcb-info-signature", "tdx.collateral.platform"]
  },
  {
    id: "tdx.tcb.qe",
    title: "The quoting enclave reaches a level Intel lists",
    spec: `${QVL}, QE identity TCB level`,
    gain: "A quoting enclave with a known hole could sign.",
    needs: ["tdx.qe.signature", "tdx.collateral.qe-identity-signature"]
  },
  {
    id: "tdx.tcb.status",
    title: "Platform, module and quoting enclave together have a status your policy accepts",
    spec: `${QVL}, TCB status convergence`,
    gain: "A platform with published, unpatched holes could answer.",
    advice: "Ask the provider to update, or accept the status knowing its advisories (--tcb-status).",
    needs: ["tdx.tcb.platform", "tdx.tcb.module", "tdx.tcb.qe"]
  },
  {
    id: "tdx.tcb.advisories",
    title: "Every advisory that applies is one your policy lists, if it lists any",
    spec: `${PCS}, advisoryIDs`,
    gain: "Accepting a status for one known reason would accept it for any other.",
    needs: ["tdx.tcb.status"]
  }
];

// verifier/tdx/checks.ts
var TDX_CHECKS = [
  ...AUTHENTICITY_CHECKS,
  ...COLLATERAL_CHECKS,
  ...APPRAISAL_CHECKS
];
var TDX_HCL_CHECKS = [
  {
    id: "tdx.hcl.claims",
    title: "REPORTDATA is the hash of the envelope\u2019s runtime claims, followed by zeros",
    spec: "Azure HCL report (HCLA envelope), runtime data",
    gain: "Claims, and the attestation key in them, could be swapped under a genuine quote.",
    needs: ["tdx.quote.signature"]
  }
];
var ALL_TDX_CHECKS = [...TDX_CHECKS, ...TDX_HCL_CHECKS];

// verifier/tdx/collateral.ts
import * as v2 from "valibot";

// verifier/tdx/json-range.ts
var MAX_BYTES = 1024 * 1024;
var MAX_DEPTH2 = 32;
function readJsonMembers(bytes, what) {
  if (bytes.length > MAX_BYTES) throw malformed4(what, `${bytes.length} bytes, at most ${MAX_BYTES}`);
  const text = fromUtf8(bytes);
  const ranges = new Scanner(text, what).object();
  const parsed = parse2(text, what);
  const ascii = text.length === bytes.length;
  return new Map(
    [...ranges].map(([name, [start, end]]) => {
      const slice = text.slice(start, end);
      const member = { bytes: ascii ? new Uint8Array(bytes.subarray(start, end)) : utf8(slice), value: parsed[name] };
      return [name, member];
    })
  );
}
var Scanner = class {
  #text;
  #what;
  #at = 0;
  constructor(text, what) {
    this.#text = text;
    this.#what = what;
  }
  /** Ranges of the outer object's member values; everything below is only checked. */
  object() {
    this.#space();
    const out = this.#members(1);
    this.#space();
    if (this.#at !== this.#text.length) throw malformed4(this.#what, `unexpected bytes at offset ${this.#at}`);
    return out;
  }
  #members(depth) {
    if (depth > MAX_DEPTH2) throw malformed4(this.#what, "nested too deeply");
    this.#expect("{");
    const out = /* @__PURE__ */ new Map();
    if (this.#take("}")) return out;
    do {
      this.#space();
      const name = String(parse2(this.#string(), this.#what));
      if (out.has(name)) throw malformed4(this.#what, `member "${name.slice(0, 40)}" appears twice`);
      this.#space();
      this.#expect(":");
      this.#space();
      const start = this.#at;
      this.#value(depth);
      out.set(name, [start, this.#at]);
    } while (this.#take(","));
    this.#expect("}");
    return out;
  }
  #value(depth) {
    const first = this.#text[this.#at];
    if (first === "{") this.#members(depth + 1);
    else if (first === "[") this.#array(depth + 1);
    else if (first === '"') this.#string();
    else {
      const start = this.#at;
      while (/[-+.\w]/.test(this.#text[this.#at] ?? "")) this.#at++;
      if (this.#at === start) throw malformed4(this.#what, `unexpected character at offset ${start}`);
    }
  }
  #array(depth) {
    if (depth > MAX_DEPTH2) throw malformed4(this.#what, "nested too deeply");
    this.#expect("[");
    if (this.#take("]")) return;
    do {
      this.#space();
      this.#value(depth);
    } while (this.#take(","));
    this.#expect("]");
  }
  /** The token with its quotes. An escape is two characters here; which escapes exist is JSON.parse's business. */
  #string() {
    const start = this.#at;
    this.#expect('"');
    for (; ; ) {
      const character = this.#text[this.#at];
      if (character === void 0) throw malformed4(this.#what, "unterminated string");
      this.#at += character === "\\" ? 2 : 1;
      if (character === '"') return this.#text.slice(start, this.#at);
    }
  }
  #space() {
    while (" 	\n\r".includes(this.#text[this.#at] ?? "x")) this.#at++;
  }
  #take(character) {
    this.#space();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }
  #expect(character) {
    if (!this.#take(character)) throw malformed4(this.#what, `expected ${character} at offset ${this.#at}`);
  }
};
function parse2(text, what) {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FormatError("json.invalid", `${what}: not well-formed JSON`, { cause });
  }
}
function malformed4(what, reason) {
  return new FormatError("json.malformed", `${what}: ${reason}`);
}

// verifier/tdx/collateral.ts
var LEVEL_STATUSES = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "Revoked"
];
var hex = (bytes) => v2.pipe(
  v2.string(),
  v2.regex(new RegExp(`^[0-9a-fA-F]{${2 * bytes}}$`), `expected ${2 * bytes} hex digits`),
  v2.transform(fromHex)
);
var svn2 = v2.pipe(v2.number(), v2.integer(), v2.minValue(0), v2.maxValue(65535));
var instant = v2.pipe(
  v2.string(),
  v2.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, "expected a time in seconds, UTC"),
  v2.transform((text) => new Date(text)),
  v2.check((date) => !Number.isNaN(date.getTime()), "no such time")
);
var components = v2.pipe(
  v2.array(v2.object({ svn: svn2 })),
  v2.length(16, "expected sixteen components"),
  v2.transform((items) => items.map((item) => item.svn))
);
var levelInfo = {
  tcbDate: instant,
  tcbStatus: v2.picklist(LEVEL_STATUSES),
  advisoryIDs: v2.optional(v2.pipe(v2.array(v2.pipe(v2.string(), v2.maxLength(64))), v2.maxLength(256)), () => [])
};
var isvLevels = v2.pipe(
  v2.array(v2.object({ tcb: v2.object({ isvsvn: svn2 }), ...levelInfo })),
  v2.minLength(1),
  v2.maxLength(256)
);
var moduleIdentity = { mrsigner: hex(48), attributes: hex(8), attributesMask: hex(8) };
var document = {
  issueDate: instant,
  nextUpdate: instant,
  tcbEvaluationDataNumber: v2.pipe(v2.number(), v2.integer(), v2.minValue(0))
};
var tcbInfoSchema = v2.object({
  id: v2.literal("TDX", "expected TDX TCB info"),
  version: v2.literal(3),
  ...document,
  fmspc: hex(6),
  pceId: hex(2),
  tcbType: v2.literal(0),
  tdxModule: v2.object(moduleIdentity),
  tdxModuleIdentities: v2.optional(
    v2.pipe(
      v2.array(
        v2.object({
          id: v2.pipe(v2.string(), v2.maxLength(32), v2.toUpperCase()),
          ...moduleIdentity,
          tcbLevels: isvLevels
        })
      ),
      v2.maxLength(256)
    )
  ),
  tcbLevels: v2.pipe(
    v2.array(
      v2.object({
        tcb: v2.object({ sgxtcbcomponents: components, pcesvn: svn2, tdxtcbcomponents: components }),
        ...levelInfo
      })
    ),
    v2.minLength(1),
    v2.maxLength(256)
  )
});
var qeIdentitySchema = v2.object({
  id: v2.literal("TD_QE", "expected the identity of the TD quoting enclave"),
  version: v2.literal(2),
  ...document,
  miscselect: hex(4),
  miscselectMask: hex(4),
  attributes: hex(16),
  attributesMask: hex(16),
  mrsigner: hex(32),
  isvprodid: v2.pipe(v2.number(), v2.integer(), v2.minValue(0), v2.maxValue(65535)),
  tcbLevels: isvLevels
});
function parseCollateral(bytes) {
  const id = toHex(sha256(bytes));
  const known2 = remembered3.get(id);
  if (known2 !== void 0) return known2;
  const parsed = readCollateral(new Uint8Array(bytes));
  const [oldest] = remembered3.keys();
  if (remembered3.size >= MAX_REMEMBERED3 && oldest !== void 0) remembered3.delete(oldest);
  remembered3.set(id, parsed);
  return parsed;
}
var remembered3 = /* @__PURE__ */ new Map();
var MAX_REMEMBERED3 = 64;
function readCollateral(bytes) {
  const members2 = readJsonMembers(bytes, "collateral");
  const [name, ...others] = [...members2.keys()].filter((key) => key !== "signature");
  const inner = members2.get(name ?? "");
  if (name !== "tcbInfo" && name !== "enclaveIdentity" || inner === void 0 || others.length > 0) {
    throw new FormatError("tdx.collateral.members", "collateral: expected tcbInfo or enclaveIdentity, and signature");
  }
  const signature = members2.get("signature")?.value;
  if (typeof signature !== "string" || signature.length !== 128) {
    throw new FormatError("tdx.collateral.signature", "collateral: expected a signature of 128 hex digits");
  }
  const signed2 = inner.bytes;
  const base = { bytes, signed: signed2, signedSha256Hex: toHex(sha256(signed2)), signature: fromHex(signature) };
  if (name === "tcbInfo") {
    const result2 = v2.safeParse(tcbInfoSchema, inner.value);
    if (result2.success) return { ...base, kind: "tcb-info", content: result2.output };
    return { ...base, kind: "unusable", member: name, reason: describeIssue(name, result2.issues[0]) };
  }
  const result = v2.safeParse(qeIdentitySchema, inner.value);
  if (result.success) return { ...base, kind: "qe-identity", content: result.output };
  return { ...base, kind: "unusable", member: name, reason: describeIssue(name, result.issues[0]) };
}
function describeIssue(name, issue) {
  const path = (issue.path ?? []).map((item) => `.${String(item.key)}`.slice(0, 40)).join("");
  const received = issue.received.length > 40 ? `${issue.received.slice(0, 40)}\u2026` : issue.received;
  return `${name}${path}: ${issue.message.slice(0, 120)}${issue.type === "literal" ? ` (found ${received})` : ""}`;
}

// verifier/tdx/choose.ts
var MAX_DOCUMENTS = 128;
async function chooseCollateral(pool, pck, signers, now) {
  const { documents, damaged } = readDocuments(pool);
  const infos = await judge2(
    documents.filter((document2) => document2.kind === "tcb-info"),
    signers
  );
  const identities = await judge2(
    documents.filter((document2) => document2.kind === "qe-identity"),
    signers
  );
  const info = best(infos, ({ document: document2, signer }) => [
    pck !== void 0 && isForPlatform(document2, pck),
    signer !== void 0,
    isCurrent(document2, now),
    document2.content.issueDate.getTime()
  ]);
  const identity = best(identities, ({ document: document2, signer }) => [
    signer !== void 0,
    isCurrent(document2, now),
    document2.content.tcbEvaluationDataNumber === info?.document.content.tcbEvaluationDataNumber,
    document2.content.issueDate.getTime()
  ]);
  const unusable = (member) => documents.flatMap(
    (document2) => document2.kind === "unusable" && document2.member === member ? document2.reason : []
  )[0] ?? damaged.find(({ names }) => names(member))?.reason;
  return {
    tcbInfo: outcome(info, unusable("tcbInfo")),
    qeIdentity: outcome(identity, unusable("enclaveIdentity"))
  };
}
function isForPlatform({ content }, { fmspc, pceId }) {
  return equalBytes(content.fmspc, fmspc) && equalBytes(content.pceId, pceId);
}
function isCurrent({ content }, now) {
  return content.issueDate <= now && now <= content.nextUpdate;
}
function readDocuments(pool) {
  const documents = [];
  const damaged = [];
  for (const item of pool.documents.filter(({ kind }) => kind === "tdx-collateral").slice(0, MAX_DOCUMENTS)) {
    try {
      documents.push(parseCollateral(item.bytes));
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      const names = (member) => new TextDecoder().decode(item.bytes).includes(`"${member}"`);
      damaged.push({ reason: `${item.name}: ${error.message}`, names });
    }
  }
  return { documents, damaged };
}
async function judge2(documents, signers) {
  return Promise.all(documents.map(async (document2) => ({ document: document2, signer: await signerOf(document2, signers) })));
}
async function signerOf({ signed: signed2, signedSha256Hex, signature }, signers) {
  for (const signer of signers) {
    if (await isMessageSignedBy(signed2, signedSha256Hex, signature, signer)) return signer;
  }
  return void 0;
}
function best(candidates, keyOf) {
  return [...candidates].sort((a, b) => {
    const [left, right] = [keyOf(a).map(Number), keyOf(b).map(Number)];
    const at = left.findIndex((value, index) => value !== right[index]);
    return (right[at] ?? 0) - (left[at] ?? 0);
  })[0];
}
function outcome(found, unusable) {
  if (found !== void 0) return { found };
  return unusable === void 0 ? { missing: true } : { unusable };
}

// verifier/tdx/collateral-checks.ts
async function checkCollateral(t, input2) {
  const { pool, certified, rootCrl, qe, minimum, now } = input2;
  const root = certified?.chain.root;
  const fit = await t.checkAsync(
    "tdx.collateral.signer",
    async () => root === void 0 ? fail("no root") : findSigners(pool, root, now)
  );
  const isRevoked = (signer) => rootCrl !== void 0 && "list" in rootCrl && rootCrl.list.revokedSerials.has(signer.serialHex);
  const signers = [...fit ?? []].sort((a, b) => Number(isRevoked(a)) - Number(isRevoked(b)));
  const choice = await chooseCollateral(pool, certified?.pck, signers, now);
  const used = [choice.tcbInfo, choice.qeIdentity].flatMap(
    (item) => "found" in item && item.found.signer !== void 0 ? [item.found.signer] : []
  );
  const relied = [...new Set(used.length > 0 ? used : signers.slice(0, 1))];
  t.check("tdx.crl.signer-status", () => notRevoked(relied, rootCrl));
  const info = t.check("tdx.collateral.tcb-info", () => read(choice.tcbInfo, "TDX TCB info for this platform"));
  t.check("tdx.collateral.tcb-info-signature", () => signed(info));
  t.check("tdx.collateral.tcb-info-window", () => withinWindow2(info, now));
  t.check("tdx.collateral.platform", () => matchPlatform2(info, certified));
  const identity = t.check("tdx.collateral.qe-identity", () => read(choice.qeIdentity, "TD QE identity"));
  t.check("tdx.collateral.qe-identity-signature", () => signed(identity));
  t.check("tdx.collateral.qe-identity-window", () => withinWindow2(identity, now));
  t.check("tdx.collateral.evaluation-number", () => {
    const numbers = [info, identity].map((item) => item?.document.content.tcbEvaluationDataNumber ?? -1);
    const detail = { expected: `one number of at least ${minimum}`, actual: numbers.join(" and ") };
    if (numbers[0] !== numbers[1]) return fail("TCB info and QE identity are of different evaluations", detail);
    return numbers.some((number3) => number3 < minimum) ? fail("the collateral is of an older evaluation", detail) : pass(void 0, detail);
  });
  t.check("tdx.qe.identity", () => {
    if (identity === void 0 || qe === void 0) return fail("no QE identity");
    return matchQeIdentity(qe, identity.document.content);
  });
  return { tcbInfo: info, qeIdentity: identity, signers: relied };
}
function read(choice, what) {
  if ("found" in choice) return pass(choice.found);
  return "unusable" in choice ? fail(choice.unusable) : unavailable(`no ${what} at hand`);
}
function signed(item) {
  return item?.signer === void 0 ? fail("not signed by the TCB Signing key over the bytes served") : pass();
}
function withinWindow2(item, now) {
  if (item === void 0) return fail("no document");
  const { issueDate, nextUpdate } = item.document.content;
  const detail = { expected: now.toISOString(), actual: `${issueDate.toISOString()} to ${nextUpdate.toISOString()}` };
  if (isCurrent(item.document, now)) return pass(void 0, detail);
  return fail(now < issueDate ? "the document is not in force yet" : "the document has expired", detail);
}
function matchPlatform2(info, certified) {
  if (info === void 0 || certified?.pck === void 0) return fail("no TCB info");
  const { content } = info.document;
  const { fmspc, pceId } = certified.pck;
  const detail = {
    expected: `FMSPC ${toHex(fmspc)}, PCEID ${toHex(pceId)}`,
    actual: `FMSPC ${toHex(content.fmspc)}, PCEID ${toHex(content.pceId)}`
  };
  return isForPlatform(info.document, certified.pck) ? pass(void 0, detail) : fail("the TCB info is another platform\u2019s", detail);
}

// verifier/tdx/tcb-checks.ts
function checkTcb(t, input2) {
  const { report, qe, pck, info, identity, policy, now } = input2;
  let platform;
  let module;
  let enclave;
  t.check("tdx.tcb.platform", () => {
    if (info === void 0 || pck === void 0) return fail("no TCB info");
    platform = matchPlatform(info, pck, report.teeTcbSvn);
    return known(platform, "the platform is below every level Intel lists: TCB not supported", policy);
  });
  t.check("tdx.tcb.module", () => {
    if (info === void 0) return fail("no TCB info");
    const match = matchModule(info, report);
    if (match.identity === "mismatched") {
      return fail(match.reason, { expected: match.expected, actual: match.actual });
    }
    module = match.module;
    if (module === void 0) return pass(void 0, { actual: "no levels of its own (version id 0)" });
    return known(module, `the module is below every level of ${module.identityId ?? "its identity"}`, policy);
  });
  t.check("tdx.tcb.qe", () => {
    if (identity === void 0) return fail("no QE identity");
    enclave = matchQe(identity, qe);
    return known(enclave, "the quoting enclave is below every level Intel lists", policy);
  });
  const tcb = info === void 0 || platform === void 0 || enclave === void 0 ? void 0 : converge(info, report, { platform, module, qe: enclave });
  t.check("tdx.tcb.status", () => tcb === void 0 ? fail("no status") : judgeStatus(tcb, policy, now));
  t.check("tdx.tcb.advisories", () => tcb === void 0 ? fail("no status") : judgeAdvisories(tcb, policy));
  return tcb;
}
function known(component, unmatched, policy) {
  if (component.status !== "Unmatched") return pass(void 0, { actual: describeComponent(component) });
  return policy.acceptedStatuses.includes("Unmatched") ? waived(`your policy accepts Unmatched: ${unmatched}`) : fail(unmatched);
}
function judgeStatus(tcb, policy, now) {
  const accepted = [
    "UpToDate",
    ...policy.acceptedStatuses.filter((status) => status !== "UpToDate")
  ];
  const detail = { expected: accepted.join(" or "), actual: describeTcb(tcb) };
  if (accepted.includes(tcb.status)) return pass(void 0, detail);
  const until = graceUntil(tcb, policy);
  if (until !== void 0 && now <= until) {
    return pass(void 0, {
      ...detail,
      actual: `${detail.actual}; within the grace period until ${until.toISOString()}`
    });
  }
  const lapsed = until === void 0 ? "" : `; the grace period ended ${until.toISOString()}`;
  const relaunch = tcb.relaunchAdvised ? "; the module was updated since launch: relaunch the TD" : "";
  return fail(`the TCB status is ${tcb.status}${relaunch}${lapsed}`, detail);
}
function graceUntil(tcb, policy) {
  const outdated = tcb.status === "OutOfDate" || tcb.status === "OutOfDateConfigurationNeeded";
  if (!outdated || tcb.outdatedSince === void 0 || policy.graceDays === 0) return void 0;
  return new Date(tcb.outdatedSince.getTime() + policy.graceDays * 864e5);
}
function judgeAdvisories(tcb, policy) {
  const actual = tcb.advisoryIds.join(", ") || "none";
  const { acceptedAdvisories } = policy;
  if (acceptedAdvisories === "any") return pass(void 0, { expected: "any: your policy lists none", actual });
  const others = tcb.advisoryIds.filter((id) => !acceptedAdvisories.includes(id));
  const detail = { expected: acceptedAdvisories.join(", ") || "none", actual };
  return others.length === 0 ? pass(void 0, detail) : fail(`advisories you did not list: ${others.join(", ")}`, detail);
}
function describeTcb({ status, platform, module, qe }) {
  const modulePart = module === void 0 ? "module without levels" : `module ${module.identityId ?? ""} ${describeComponent(module)}`;
  return `${status} (platform ${describeComponent(platform)}, ${modulePart}, QE ${describeComponent(qe)})`;
}
function describeComponent({ status, tcbDate, advisoryIds }) {
  const dated = tcbDate === void 0 ? status : `${status} of ${tcbDate.toISOString().slice(0, 10)}`;
  return advisoryIds.length === 0 ? dated : `${dated} [${advisoryIds.join(" ")}]`;
}

// verifier/tdx/findings.ts
function describeFindings(found) {
  const { quote, certified, tcb, log } = found;
  const items = itemsOf(found);
  const expiries = items.map(({ to }) => to.getTime());
  return {
    quote,
    mrTd: quote.report.mrTd,
    rtmrs: rtmrsOf(quote.report),
    pck: certified?.pck,
    privateAnchor: certified?.trusted === true && !certified.pinned,
    tcb,
    eventLog: log,
    paravisorMeasurement: found.paravisor,
    endorsementsUsed: items.map(({ kind, from, to }) => ({
      kind,
      issuedAt: from.toISOString(),
      nextUpdate: to.toISOString()
    })),
    endorsementBytes: items.flatMap(({ bytes }) => bytes ?? []),
    validUntil: new Date(certified === void 0 ? 0 : Math.min(...expiries)),
    notProven: limitsOf(found)
  };
}
function itemsOf({ certified, crls, collateral }) {
  const { tcbInfo, qeIdentity, signers } = collateral;
  const chain = certified === void 0 ? [] : [certified.chain.leaf, certified.chain.intermediate, certified.chain.root];
  const lists2 = [listOf(crls?.root), listOf(crls?.pck)].flatMap((list) => list ?? []);
  const documents = [
    { kind: "TCB info", document: tcbInfo?.document },
    { kind: "QE identity", document: qeIdentity?.document }
  ];
  return [
    ...chain.map((item) => ({
      kind: item.subjectCommonName ?? "certificate",
      from: item.notBefore,
      to: item.notAfter
    })),
    ...signers.map((item) => ({
      kind: item.subjectCommonName ?? "certificate",
      from: item.notBefore,
      to: item.notAfter,
      bytes: item.der
    })),
    ...lists2.map((list) => ({
      kind: `CRL of ${list.issuerCommonName ?? "?"}`,
      from: list.thisUpdate,
      to: list.nextUpdate,
      bytes: list.der
    })),
    ...documents.flatMap(
      ({ kind, document: document2 }) => document2 === void 0 ? [] : {
        kind: `${kind}, evaluation ${document2.content.tcbEvaluationDataNumber}`,
        from: document2.content.issueDate,
        to: document2.content.nextUpdate,
        bytes: document2.bytes
      }
    )
  ];
}
function listOf(outcome2) {
  return outcome2 !== void 0 && "list" in outcome2 ? outcome2.list : void 0;
}
function limitsOf({ quote, tcb, log, policy, now }) {
  const out = [];
  const { report } = quote;
  if (rtmrsOf(report).every(isZero)) {
    out.push({
      id: "tdx.rtmr.unused",
      text: "what booted after the initial firmware: every RTMR is zero, so nothing was measured into them"
    });
  }
  if (report.mrServiceTd !== void 0 && !isZero(report.mrServiceTd)) {
    out.push({ id: "tdx.service-td", text: `what service TD ${toHex(report.mrServiceTd)} does to the guest` });
  }
  if (tcb !== void 0 && tcb.status !== "UpToDate") {
    const until = graceUntil(tcb, policy);
    const grace = until === void 0 || until < now ? "" : `, in its grace period until ${until.toISOString()}`;
    out.push({
      id: "tdx.tcb.status",
      text: `that the platform is free of published holes: ${describeTcb(tcb)}${grace}`
    });
  }
  const unverified = log?.events.filter(({ coverage }) => coverage === "unverified").length ?? 0;
  if (unverified > 0) {
    out.push({
      id: "tdx.event-log.remarks",
      text: `what the log says beside ${unverified} of ${log?.events.length ?? 0} digests: those data are not what was hashed`
    });
  }
  return out;
}

// verifier/tdx/verify.ts
function tdxPlan(evidence, withHclReport = false) {
  return withHclReport || carriesHcl(evidence) ? ALL_TDX_CHECKS : TDX_CHECKS;
}
async function verifyTdx(t, input2) {
  const { endorsements: pool, policy, now } = input2;
  const read2 = checkForm(t, input2.quote);
  if (read2 === void 0) return void 0;
  const { quote, evidence } = read2;
  const { report } = quote;
  const certified = await checkChain(t, quote, input2.anchors, now);
  const crls = certified && await checkPathRevocation(t, certified.chain, { mode: input2.revocation, pool, now });
  await checkSignatures(t, quote, certified?.chain);
  const qe = quote.certification?.qeReport;
  const minimum = Math.max(policy.minTcbEvaluationDataNumber, input2.minTcbEvaluationDataNumber ?? 0);
  const collateral = await checkCollateral(t, { pool, certified, rootCrl: crls?.root, qe, minimum, now });
  const tcb = qe && checkTcb(t, {
    report,
    qe,
    pck: certified?.pck,
    info: collateral.tcbInfo?.document.content,
    identity: collateral.qeIdentity?.document.content,
    policy,
    now
  });
  checkTd(t, report, policy);
  checkPlatformPins(t, certified?.pck, policy);
  const log = checkEventLogForm(t, input2.eventLog ?? evidence.eventLog, policy);
  checkReportPins(t, report, policy, log);
  checkReportData(t, report, input2.expectedReportData);
  checkEventLog(t, report, log, policy);
  const hcl = checkHcl(t, report, input2.hclReport, evidence.hcl);
  return describeFindings({ quote, certified, crls, collateral, tcb, log, paravisor: hcl, policy, now });
}

// verifier/errors.ts
var UsageError = class extends SubrosaError {
};

// verifier/trust-anchors.ts
var TrustAnchorError = class extends UsageError {
};
function parseTrustAnchors(bytes, name = "trust anchor") {
  try {
    if (!looksLikePem(bytes)) return [anchorOf(parseCertificate(bytes), void 0, name)];
    const anchors = readPem(bytes).map(({ label, der, explanatory }) => {
      if (label !== "CERTIFICATE")
        throw new TrustAnchorError("trust-anchor.label", `${name}: unexpected ${label} block`);
      return anchorOf(parseCertificate(der), declaredKind(explanatory, name), name);
    });
    if (anchors.length === 0) throw new TrustAnchorError("trust-anchor.empty", `${name}: no certificate found`);
    return anchors;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new TrustAnchorError("trust-anchor.malformed", `${name}: ${error.message}`, { cause: error });
  }
}
function kindOfSubject(commonName) {
  if (commonName === void 0) return void 0;
  if (commonName.startsWith("ARK-")) return "snp";
  if (commonName === "Intel SGX Root CA") return "tdx";
  return commonName.includes("NVIDIA") ? "nvidia" : void 0;
}
function anchorOf(certificate, declared, name) {
  const { subjectCommonName, spkiSha256Hex } = certificate;
  const kind = declared ?? kindOfSubject(subjectCommonName);
  if (kind === void 0) {
    throw new TrustAnchorError(
      "trust-anchor.kind",
      `${name}: ${subjectCommonName ?? "certificate"} declares no vendor kind; expected a line "Kind: snp", "Kind: tdx" or "Kind: nvidia"`
    );
  }
  return { kind, certificate, spkiSha256Hex };
}
function declaredKind(explanatory, name) {
  const declared = explanatory.flatMap((line) => /^Kind:\s*(\S+)\s*$/.exec(line)?.slice(1) ?? []);
  const [kind, second] = declared;
  if (second !== void 0) throw new TrustAnchorError("trust-anchor.kind", `${name}: more than one Kind line`);
  if (kind === void 0 || kind === "snp" || kind === "tdx" || kind === "nvidia") return kind;
  throw new TrustAnchorError("trust-anchor.kind", `${name}: unknown kind "${kind.slice(0, 20)}"`);
}

// test/tdx/cases.ts
function prepareCase(vectors, c) {
  const carried = c.conformance === void 0 ? void 0 : readConformance(join(vectors, c.conformance));
  const read2 = (path) => bytesOf(join(vectors, path));
  const files = c.endorsements.flatMap((path) => filesUnder(join(vectors, path)));
  return {
    quote: carried?.quote ?? read2(c.quote ?? ""),
    endorsements: sortEndorsements([...carried?.files ?? [], ...files]),
    anchors: c.trustAnchor === true ? carried?.anchors ?? [] : [],
    now: new Date(c.at),
    revocation: c.revocation,
    policy: completeTdxPolicy(c.tdx ?? {}),
    ...c.minTcbEvaluationDataNumber === void 0 ? {} : { minTcbEvaluationDataNumber: c.minTcbEvaluationDataNumber },
    ...c.eventLog === void 0 ? {} : { eventLog: read2(c.eventLog) },
    ...c.hclReport === void 0 ? {} : { hclReport: read2(c.hclReport) },
    ...c.reportData === void 0 ? {} : { expectedReportData: fromHex(c.reportData) }
  };
}
async function run(input2) {
  const t = new Transcript(tdxPlan(input2.quote, input2.hclReport !== void 0));
  const findings = await verifyTdx(t, input2);
  const checks = t.checks();
  const failing = checks.filter((check2) => check2.status === "fail").map((check2) => check2.id);
  const blocking = checks.find((check2) => check2.status === "skip" && !t.satisfied(check2.id));
  return { verdict: t.verdict(), checks, failing, firstFailing: failing[0] ?? blocking?.id ?? null, findings };
}
function filesUnder(path) {
  if (!statSync(path).isDirectory()) return [{ name: path, bytes: bytesOf(path) }];
  return readdirSync(path).sort().flatMap((name) => filesUnder(join(path, name)));
}
function bytesOf(path) {
  const raw = new Uint8Array(readFileSync(path));
  if (path.endsWith(".gz")) return new Uint8Array(gunzipSync(raw));
  return path.endsWith(".hex") ? fromHex(Buffer.from(raw).toString("latin1").trim()) : raw;
}
function readConformance(folder) {
  const input2 = JSON.parse(readFileSync(join(folder, "input.json"), "utf8"));
  const root = input2.collateral["intel_root_ca_pem"];
  return {
    quote: fromBase64(input2.quote_b64),
    files: Object.entries(input2.collateral).map(([name, text]) => ({
      name,
      bytes: name.endsWith("_b64") ? fromBase64(text) : utf8(text)
    })),
    anchors: root === void 0 ? [] : parseTrustAnchors(utf8(root))
  };
}

// ../../tmp/perf.ts
var cases = JSON.parse(readFileSync2("/work/main/test/vectors/expected-checks.json", "utf8"));
var input = prepareCase("/work/shared/vectors", cases["tdx/v4-b0c06f-uptodate"]);
var t0 = performance.now();
await run(input);
console.log("cold", performance.now() - t0);
async function bench(f, n = 400) {
  for (let i = 0; i < 100; i++) await f();
  const ts = [];
  for (let i = 0; i < n; i++) {
    const a = performance.now();
    await f();
    ts.push(performance.now() - a);
  }
  ts.sort((a, b) => a - b);
  return ts[n >> 1];
}
var subtle = crypto.subtle;
var kp = await subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
var msg = new Uint8Array(700);
var sig = await subtle.sign({ name: "ECDSA", hash: "SHA-256" }, kp.privateKey, msg);
var one = await bench(() => subtle.verify({ name: "ECDSA", hash: "SHA-256" }, kp.publicKey, sig, msg));
var spki = await subtle.exportKey("raw", kp.publicKey);
var imp = await bench(() => subtle.importKey("raw", spki, { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]));
var full = await bench(async () => {
  const t = new Transcript(tdxPlan(input.quote));
  await verifyTdx(t, input);
  if (t.verdict() !== "accepted") throw 1;
  t.checks();
});
console.log({ one, imp, full, ratio10: full / (10 * one), ratio4: full / (4 * one) });
if (process.argv[2]) {
  const a = performance.now();
  for (let i = 0; i < 2e3; i++) {
    const t = new Transcript(tdxPlan(input.quote));
    await verifyTdx(t, input);
  }
  ;
  console.log((performance.now() - a) / 2e3);
}
