// Renders the OpenAPI document of Headwater's operator API. No library, no other host: what is not drawn here is in
// /v1/openapi.json itself.
"use strict";

const document_url = "/v1/openapi.json";

// el makes an element; children are elements or text, which is never read as HTML.
function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) e.setAttribute(name, value);
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return e;
}

function resolve(doc, schema) {
  const seen = new Set();
  while (schema && schema.$ref && !seen.has(schema.$ref)) {
    seen.add(schema.$ref);
    schema = schema.$ref.replace(/^#\//, "").split("/").reduce((at, key) => at && at[key], doc);
  }
  return schema || {};
}

function typeName(doc, schema) {
  const s = resolve(doc, schema);
  const types = [].concat(s.type || "any").filter((t) => t !== "null");
  let name = types.join(" or ");
  if (types[0] === "array") name = "list of " + typeName(doc, s.items || {});
  if (s.format) name += " (" + s.format + ")";
  return name;
}

function note(s) {
  const parts = [];
  if (s.description) parts.push(s.description);
  if (s.enum) parts.push("One of: " + s.enum.join(", ") + ".");
  for (const [key, word] of [["minimum", "At least"], ["maximum", "At most"], ["maxLength", "At most this many characters:"], ["pattern", "Matches"]])
    if (s[key] !== undefined) parts.push(word + " " + s[key] + ".");
  if (s.default !== undefined) parts.push("Default: " + JSON.stringify(s.default) + ".");
  if (s.writeOnly) parts.push("Never shown again.");
  if (s.readOnly) parts.push("Only in answers.");
  return parts.join(" ");
}

// fields draws an object's members, each object in it folded; depth ends what refers to itself. Only what a client sends
// has required members.
function fields(doc, schema, depth, sent) {
  let s = resolve(doc, schema);
  if ([].concat(s.type).includes("array")) s = resolve(doc, s.items || {});
  const members = Object.entries(s.properties || {});
  if (members.length === 0) return el("p", {}, note(s) || "Any JSON.");
  const table = el("table");
  for (const [name, member] of members) {
    const m = resolve(doc, member);
    const needed = sent && (s.required || []).includes(name) ? el("span", { class: "need" }, " required") : "";
    const inner = [].concat(m.type).includes("array") ? resolve(doc, m.items || {}) : m;
    const about = el("td", {}, note(Object.assign({}, m, member.description ? { description: member.description } : {})));
    if (inner.properties && depth < 5) {
      const fold = el("details", {}, el("summary", {}, "members"));
      fold.addEventListener("toggle", () => { if (fold.open && fold.childElementCount === 1) fold.append(fields(doc, inner, depth + 1, sent)); });
      about.append(fold);
    }
    table.append(el("tr", {}, el("td", {}, el("code", {}, name), needed), el("td", {}, typeName(doc, member)), about));
  }
  return table;
}

function parameters(list, doc) {
  const table = el("table");
  for (const p of list) {
    const needed = p.required ? el("span", { class: "need" }, " required") : "";
    table.append(el("tr", {}, el("td", {}, el("code", {}, p.name), needed), el("td", {}, p.in + ", " + typeName(doc, p.schema)),
      el("td", {}, note(Object.assign({}, resolve(doc, p.schema), p.description ? { description: p.description } : {})))));
  }
  return table;
}

function curl(doc, path, method, op) {
  const base = location.origin + ((doc.servers && doc.servers[0] && doc.servers[0].url) || "");
  let text = "curl -H \"X-Auth-Token: $(openstack token issue -f value -c id)\"";
  if (method !== "get") text += " -X " + method.toUpperCase();
  if (op.requestBody) text += " -H 'Content-Type: application/json' -d @body.json";
  return text + " \\\n  " + base + path.replace(/\{(\w+)\}/g, (_, name) => name.toUpperCase());
}

function operation(doc, path, method, op) {
  const section = el("section", { id: op.operationId },
    el("h3", {}, op.summary || op.operationId),
    el("p", {}, el("span", { class: "method " + method }, method.toUpperCase()), " ", el("code", {}, "/v1" + path)));
  if (op.description) section.append(el("p", {}, op.description));
  if (op.parameters && op.parameters.length) section.append(el("h4", {}, "Parameters"), parameters(op.parameters, doc));
  const body = op.requestBody && Object.values(op.requestBody.content)[0];
  if (body) section.append(el("h4", {}, "Body"), fields(doc, body.schema, 0, true));
  for (const [status, answer] of Object.entries(op.responses || {})) {
    if (status === "default") continue;
    section.append(el("h4", {}, "Answer " + status));
    const content = answer.content && Object.values(answer.content)[0];
    section.append(content ? fields(doc, content.schema, 0, false) : el("p", {}, answer.description || "No body."));
  }
  section.append(el("h4", {}, "Try"), el("pre", {}, curl(doc, path, method, op)));
  return section;
}

function render(doc) {
  const page = document.getElementById("page"), menu = document.getElementById("menu");
  page.replaceChildren(el("h1", {}, doc.info.title), el("p", {}, doc.info.description || ""),
    el("p", {}, "Version " + doc.info.version + ". The document itself: ", el("a", { href: document_url }, document_url),
      ". Errors are application/problem+json (RFC 9457)."));
  const groups = new Map();
  for (const [path, item] of Object.entries(doc.paths))
    for (const [method, op] of Object.entries(item)) {
      if (!op.operationId) continue;
      const tag = (op.tags || ["Other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push([path, method, op]);
    }
  for (const [tag, list] of groups) {
    menu.append(el("h2", {}, tag));
    page.append(el("h2", {}, tag));
    for (const [path, method, op] of list) {
      menu.append(el("a", { href: "#" + op.operationId }, op.summary || op.operationId));
      page.append(operation(doc, path, method, op));
    }
  }
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

fetch(document_url)
  .then((answer) => { if (!answer.ok) throw new Error("answered " + answer.status); return answer.json(); })
  .then(render)
  .catch((e) => document.getElementById("page").replaceChildren(el("p", {}, document_url + ": " + e.message)));
