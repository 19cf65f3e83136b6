// The ranked list as files: CSV, and one HTML page that needs nothing else.

const COLUMNS = ["rank", "distance", "camera", "time", "modality", "identity", "name", "key"];

// Text as a field of CSV. A spreadsheet would run text that begins like a formula, so that is marked as text.
function field(value) {
  let text = value === null || value === undefined ? "" : String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(hits) {
  const others = [...new Set(hits.flatMap((hit) => Object.keys(hit.entry.columns)))].sort();
  const rows = hits.map((hit) => [
    hit.rank, hit.distance.toFixed(6), ...COLUMNS.slice(2).map((name) => hit.entry[name]),
    ...others.map((name) => hit.entry.columns[name]),
  ]);
  return [[...COLUMNS, ...others], ...rows].map((row) => row.map(field).join(",") + "\r\n").join("");
}

const STYLE = `:root{color-scheme:light dark;--line:#d5d9de;--muted:#59606a;--soft:#eceef2;--loud:#fff1cf}
@media(prefers-color-scheme:dark){:root{--line:#343a42;--muted:#a7aeb8;--soft:#242930;--loud:#2e2611}}
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}
.note{background:var(--loud);padding:.6rem 1rem;border-radius:6px}
.query{display:flex;gap:1rem;align-items:flex-start}
ol{list-style:none;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(8rem,1fr));gap:.9rem}
li{border:1px solid var(--line);border-radius:8px;padding:.5rem;font-size:.85rem;break-inside:avoid}
img,.none{width:100%;height:15rem;object-fit:contain;background:var(--soft);display:block;border-radius:5px}
.query img,.query .none{width:8rem}
.none{display:grid;place-items:center;color:var(--muted)}
b{display:block}span{display:block;color:var(--muted)}`;

// subject: {image, words}. hits: with .image, a data address or null, and .words. facts: lines about the search.
export function html(subject, hits, facts, note) {
  const page = document.implementation.createHTMLDocument("Ranked list");
  const add = (parent, name, text, style) => {
    const element = page.createElement(name);
    if (text) element.textContent = text;
    if (style) element.className = style;
    return parent.appendChild(element);
  };
  const image = (parent, source, words) => {
    if (!source) return add(parent, "div", "no image", "none");
    const image = add(parent, "img");
    image.src = source;
    image.alt = words;
  };
  page.documentElement.lang = "en";
  const meta = page.createElement("meta");
  meta.setAttribute("charset", "utf-8");
  page.head.prepend(meta);
  const policy = page.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
  page.head.append(policy);
  const port = page.createElement("meta");
  port.name = "viewport";
  port.content = "width=device-width";
  page.head.append(port);
  add(page.body, "h1", "Ranked list");
  add(page.body, "p", note, "note");
  const query = add(page.body, "div", "", "query");
  image(add(query, "div"), subject.image, "query");
  const about = add(query, "div");
  for (const fact of [...subject.words, ...facts]) add(about, "span", fact);
  const list = add(page.body, "ol");
  for (const hit of hits) {
    const item = add(list, "li");
    image(item, hit.image, `rank ${hit.rank}`);
    add(item, "b", `${hit.rank}. distance ${hit.distance.toFixed(3)}`);
    for (const word of hit.words) add(item, "span", word);
  }
  // The page that builds this one may not make style elements, so the style is added to the text.
  const text = page.documentElement.outerHTML.replace("</head>", () => `<style>${STYLE}</style></head>`);
  return `<!doctype html>\n${text}\n`;
}
