// The search page. State is a query, the filters in the form, and what is shown: a ranked list or a page of the gallery.
import { csv, html } from "/lists.js";
import { mark } from "/marker.js";
import { chart, isolated, moments } from "/path.js";

const $ = (id) => document.getElementById(id);
const PAGE = 48;
const UPLOADS = 10; // how many uploaded queries the Back button can return to
const RETRIES = 5;
const uploads = new Map();

let info = null;
let query = null; // {file, name} or {entry}
let answer = null; // of the query under the filters in the form, with both; nothing while it is asked for
let start = 0; // of the page of the gallery
let latest = browse; // the list that was asked for last, which new filters ask for again: browse, search or follow
let running = null; // aborts the request under way
let following = null; // aborts the request for a person's path
let nextUpload = Date.now(); // not a number that the history has from before a reload
let shown = null; // {list, place}: the answer and the place in it of the result beside the query

// ---- small helpers

function element(name, style, text) {
  const made = document.createElement(name);
  if (style) made.className = style;
  if (text !== undefined) made.textContent = text;
  return made;
}

const plural = (count, word, words = `${word}s`) => `${count.toLocaleString("en")} ${count === 1 ? word : words}`;
const moment = (iso, style) => (iso ? new Date(iso).toLocaleString(undefined, style) : null);
const when = (iso) => moment(iso, { dateStyle: "medium", timeStyle: "medium" });
const day = (iso) => moment(iso, { dateStyle: "medium" });
const address = (entry, size = "thumbnail") => `/api/entries/${encodeURIComponent(entry.key)}/image?size=${size}`;

function describe(entry) {
  const modality = info.modalities.length > 1 ? entry.modality : null;
  return [
    [entry.camera === null ? null : `camera ${isolated(entry.camera)}`, modality].filter(Boolean).join(", "),
    when(entry.time),
    entry.identity === null ? null : `identity ${isolated(entry.identity)}`,
  ].filter(Boolean);
}

function put(frame, source, words, otherwise = "image missing") {
  frame.querySelector("img")?.remove();
  let missing = frame.querySelector("span:not(.rank)");
  if (!missing) missing = frame.appendChild(element("span"));
  missing.textContent = source ? "" : "no image";
  if (!source) return;
  const image = new Image();
  image.alt = words;
  image.decoding = "async";
  image.onerror = () => {
    if (!image.parentNode) return; // another has taken its place
    image.remove();
    missing.textContent = otherwise;
  };
  image.src = source;
  frame.append(image);
}

// The content of a file or blob as a data address, null where it cannot be read.
const read = (blob) =>
  new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => resolve(null);
    reader.readAsDataURL(blob);
  });

const narrow = () => matchMedia("(max-width: 52rem)").matches;

function say(text) {
  $("status").textContent = text || "\u00a0";
}

function complain(text) {
  $("error").hidden = !text;
  $("error").firstElementChild.textContent = text || "";
  placeComplaint();
}

// Where it is seen: an open dialog covers the page.
function placeComplaint() {
  const dialog = document.querySelector("dialog[open]");
  if (dialog) dialog.prepend($("error"));
  else $("grid").before($("error"));
}

function busy(text, done) {
  const bar = $("progress");
  bar.hidden = text === null;
  bar.classList.toggle("counted", done !== undefined);
  if (done !== undefined) bar.style.setProperty("--done", done);
  $("grid").classList.toggle("waiting", text !== null);
  $("stage").setAttribute("aria-busy", String(text !== null));
  if (text) say(text);
}

// ---- talking to the server

class Failure extends Error {}
class Stopped extends Error {}

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(new Stopped()); }, { once: true });
  });

function once(method, url, body, signal, progress, kind) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.responseType = kind;
    if (progress) request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onload = () => resolve(request);
    request.onerror = () => reject(new Failure("The server does not answer. Is it still running?"));
    request.onabort = () => reject(new Stopped());
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

async function ask(method, url, body, { signal, progress, wait = busy, kind = "json" }) {
  for (let attempt = 0; ; attempt++) {
    const request = await once(method, url, body, signal, progress, kind);
    if (request.status < 400 && request.response) return request.response;
    if (request.status === 401) {
      location.assign("/login");
      throw new Stopped();
    }
    const text = request.response?.error ?? `The server answered with status ${request.status}.`;
    if (request.status !== 503 || attempt === RETRIES) throw Object.assign(new Failure(text), { status: request.status });
    const seconds = Number(request.getResponseHeader("Retry-After")) || 2;
    wait(`The server is busy; trying again in ${seconds} seconds.`);
    await pause(seconds, signal);
  }
}

function blame(error) {
  if (error instanceof Failure) return error.message;
  console.error(error);
  return "Something went wrong in this page; reload it and try again.";
}

// Runs one act at a time: a newer one stops the one under way. Whether it was done to the end.
async function act(words, work) {
  running?.abort();
  const mine = (running = new AbortController());
  complain("");
  busy(words);
  try {
    await work(mine.signal);
    return true;
  } catch (error) {
    if (error instanceof Stopped) return false;
    fill(); // what is left there was not asked for
    say("");
    complain(blame(error));
    return false;
  } finally {
    if (running === mine) {
      running = null;
      busy(null);
    }
  }
}

// ---- filters

function filters() {
  const form = new FormData($("filter"));
  const pairs = form.getAll("camera").map((camera) => ["camera", camera]);
  if (form.get("modality")) pairs.push(["modality", form.get("modality")]);
  for (const name of ["since", "until"]) {
    const chosen = form.get(name) && new Date(form.get(name));
    if (chosen && !Number.isNaN(chosen.getTime())) pairs.push([name, chosen.toISOString()]);
  }
  if (form.get("column_name") && form.get("column_text")) pairs.push(["column", `${form.get("column_name")}=${form.get("column_text")}`]);
  return pairs;
}

function filterWords() {
  const pairs = filters();
  const cameras = pairs.filter(([name]) => name === "camera").map(([, value]) => value);
  const words = cameras.length ? [`camera ${cameras.map(isolated).join(", ")}`] : [];
  for (const [name, value] of pairs) {
    if (name === "modality") words.push(`${value} only`);
    if (name === "since") words.push(`from ${when(value)}`);
    if (name === "until") words.push(`until ${when(value)}`);
    if (name === "column") words.push(isolated(value.replace("=", " ")));
  }
  return words.join("; ");
}

const chosenModality = () => document.querySelector('input[name="query_modality"]:checked')?.value ?? "";

// ---- the grid

function card(entry, list, hit) {
  const item = element("li", "card");
  const show = element("button", "show");
  show.type = "button";
  const frame = element("div", "frame");
  put(frame, address(entry), "");
  if (hit) frame.append(element("span", "rank", hit.rank));
  show.append(frame);
  const words = element("div", "words");
  if (hit) words.append(element("b", "", hit.distance.toFixed(3)));
  for (const word of describe(entry)) words.append(element("span", "", word));
  const about = describe(entry).join(", ") || entry.name;
  if (hit) {
    show.setAttribute("aria-label", `Rank ${hit.rank}, distance ${hit.distance.toFixed(3)}, ${about}: compare with the query`);
    show.addEventListener("click", () => compare(list.hits.indexOf(hit), list));
    const from = element("button", "from", "Search from it");
    from.type = "button";
    from.setAttribute("aria-label", `Search from rank ${hit.rank}`);
    from.addEventListener("click", () => choose({ entry }));
    item.append(show, words, from);
  } else {
    show.setAttribute("aria-label", `Search for the person in: ${about}`);
    show.addEventListener("click", () => choose({ entry }));
    item.append(show, words);
  }
  return item;
}

function nothing(title, text) {
  const item = element("li", "nothing");
  item.append(element("b", "", title), document.createTextNode(text));
  return item;
}

function fill(...items) {
  $("grid").replaceChildren(...items);
  $("pager").hidden = true;
}

function turnTo(list) {
  latest = list;
  $("show-results").setAttribute("aria-pressed", String(list === search));
  $("show-gallery").setAttribute("aria-pressed", String(list === browse));
  $("save-csv").disabled = $("save-html").disabled = true;
}

function showResults() {
  const list = answer;
  const { hits, words } = list;
  turnTo(search);
  fill(
    ...(hits.length
      ? hits.map((hit) => card(hit.entry, list, hit))
      : [nothing("Nothing to show", words
          ? "No image in the gallery passes these filters."
          : "There are no other images in the gallery.")]),
  );
  $("save-csv").disabled = $("save-html").disabled = !hits.length;
  say(`${plural(hits.length, "result")}, nearest first, in ${list.seconds.toFixed(2)} s${words ? ` (${words})` : ""}. `
    + (hits.length ? "The number is the distance, 0 to 2." : ""));
}

function browse(from = start) {
  turnTo(browse);
  return act("Loading the gallery.", async (signal) => {
    const words = filterWords();
    const parameters = new URLSearchParams([...filters(), ["start", from], ["count", PAGE]]);
    const page = await ask("GET", `/api/entries?${parameters}`, null, { signal });
    start = from;
    const entries = page.entries;
    fill(...entries.map((entry) => card(entry)));
    if (!entries.length)
      fill(info.entries
        ? nothing("Nothing to show", "No image in the gallery passes these filters.")
        : nothing("The gallery is empty", "Add images with the command crossreid index, then reload this page."));
    $("pager").hidden = !entries.length || (start === 0 && page.next === null);
    $("previous").disabled = start === 0;
    $("next").disabled = page.next === null;
    $("page-words").textContent = `${start + 1} to ${start + entries.length}`;
    say(entries.length ? `Choose an image to search from${words ? ` (${words})` : ""}.` : "");
  });
}

// ---- searching

function showQuery() {
  const asked = info.model.modalities.length > 1;
  $("query-modality").hidden = !asked;
  for (const radio of document.querySelectorAll('input[name="query_modality"]')) {
    radio.disabled = Boolean(query?.entry);
    if (query?.entry) radio.checked = radio.value === query.entry.modality;
  }
  if (query?.entry) {
    put($("query-frame"), address(query.entry), "the query");
    $("query-name").textContent = ["From the gallery", ...describe(query.entry)].join(", ");
  } else if (query) {
    $("query-name").textContent = query.name;
    put($("query-frame"), query.image ?? query.preview, "the query", "?");
  }
  $("show-results").disabled = query === null;
  $("mark").hidden = !query?.preview;
  $("mark").textContent = query?.box ? "Mark another person in it" : "Mark a person in it";
  // Only an entry says which camera took it.
  $("others-line").hidden = info.cameras.length < 2 || !query?.entry || query.entry.camera === null;
}

// Search with something new, and remember the way back.
function choose(next) {
  if (next.file) {
    const id = nextUpload++;
    uploads.set(id, next);
    uploads.delete(id - UPLOADS);
    history.pushState({ upload: id }, "", location.pathname);
  } else {
    history.pushState({ key: next.entry.key }, "", `#key=${encodeURIComponent(next.entry.key)}`);
  }
  adopt(next);
}

// Closes what is open about a list, before another takes its place.
function leave() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

function adopt(next) {
  leave();
  $("query-modality").classList.remove("asking");
  const wasEntry = Boolean(query?.entry);
  query = next;
  if (next.file && wasEntry) for (const radio of document.querySelectorAll('input[name="query_modality"]')) radio.checked = false;
  if (next.file && next.modality)
    for (const radio of document.querySelectorAll('input[name="query_modality"]')) radio.checked = radio.value === next.modality;
  if (next.file && next.preview === undefined && next.file.size <= info.limits.bytes)
    read(next.file).then((preview) => { // until the server has sent how it understands the image
      next.preview = preview;
      if (query === next) showQuery();
    });
  showQuery();
  return search();
}

function search() {
  const mine = query;
  answer = null;
  turnTo(search);
  if (mine.file && info.model.modalities.length > 1 && !chosenModality()) {
    running?.abort();
    fill();
    if (!$("query-modality").classList.contains("asking")) { // new filters do not ask again
      $("query-modality").classList.add("asking");
      document.querySelector('input[name="query_modality"]').focus({ preventScroll: true });
      $("query-modality").scrollIntoView({ block: "nearest" });
    }
    busy(null);
    complain("");
    say("Is this image visible light or infrared? Say which, and the search begins.");
    return;
  }
  $("query-modality").classList.remove("asking");
  return act("Searching.", async (signal) => {
    const words = filterWords();
    const form = new FormData();
    if (mine.entry) form.append("key", mine.entry.key);
    else {
      if (mine.file.size > info.limits.bytes)
        throw new Failure(`${mine.name} has ${(mine.file.size / 2 ** 20).toFixed(1)} MB and at most ${Math.floor(info.limits.bytes / 2 ** 20)} MB are allowed: shrink the image and try again.`);
      form.append("image", mine.file, "image");
      mine.modality = chosenModality();
      if (mine.modality) form.append("query_modality", mine.modality);
      if (mine.box) form.append("box", mine.box.join(","));
    }
    if ($("filter").elements.rerank.checked) form.append("rerank", "1");
    if (!$("others-line").hidden && $("filter").elements.other_cameras.checked) form.append("other_cameras", "1");
    for (const [name, value] of filters()) form.append(name, value);
    form.append("top", $("filter").elements.top.value);
    const progress = mine.file && ((done) => (done < 1 ? busy("Sending the image.", done) : busy("Searching.")));
    const found = await ask("POST", "/api/search", form, { signal, progress });
    if (found.query.entry) mine.entry = found.query.entry;
    if (found.query.image) mine.image = found.query.image;
    answer = { ...found, query: mine, words };
    showQuery();
    showResults();
    if (narrow() && !$("pair").open) $("stage").scrollIntoView();
  });
}

function offer(file) {
  if (!file) return;
  // Whether it is an image is for the server to say; some systems give no type at all.
  choose({ file, name: file.name || "Pasted image" });
}

// ---- query and result side by side

function facts(list, pairs) {
  list.replaceChildren();
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(element("dt", "", name), element("dd", "", value));
  }
}

const entryFacts = (entry) => [
  ["camera", entry.camera], ["taken", when(entry.time)], ["modality", entry.modality], ["identity", entry.identity],
  ...Object.entries(entry.columns).filter(([name]) => name !== "crops").map(([name, value]) => [name, String(value)]), ["file", entry.name],
];

const percent = (share) => `${(100 * share).toFixed(share < 0.001 ? 3 : 1)} %`;

function worth(hit) {
  if (!hit.worth) return "Nothing says what this distance is worth: the model was not evaluated.";
  return `In the evaluation of this model ${percent(hit.worth.of_one_person)} of pairs of one person and `
    + `${percent(hit.worth.of_two_people)} of pairs of two people came this near. Other places have other rates.`;
}

// Where and when the gallery has seen the person of an entry. No act: a search of new filters goes on meanwhile.
async function followPerson(identity) {
  following?.abort();
  const { signal } = (following = new AbortController());
  const parameters = new URLSearchParams([["identity", identity], ["count", info.limits.count]]);
  const wait = (text) => ($("path-words").textContent = text);
  $("pair").close();
  $("path-heading").textContent = `Path of ${identity}`;
  wait("Looking through the gallery.");
  $("path-chart").replaceChildren();
  $("path-list").replaceChildren();
  $("path").showModal();
  try {
    const page = await ask("GET", `/api/entries?${parameters}`, null, { signal, wait });
    const seen = moments(page.entries);
    $("path-words").textContent = `${plural(seen.length, "image or tracklet", "images or tracklets")} that the gallery has under this identity`
      + `${page.next === null ? "" : ", the first of more"}. Who it is was decided by ${seen.some((each) => each.entry.columns.kind === "tracklet") ? "linking, and may be wrong" : "whoever filled the gallery"}.`;
    $("path-chart").replaceChildren(chart(seen));
    $("path-list").replaceChildren(...seen.map((each) => card(each.entry)));
  } catch (error) {
    if (!(error instanceof Stopped)) wait(blame(error));
  }
}

function compare(place, list) {
  const { hits, query } = list;
  const hit = hits[place];
  shown = { list, place };
  put($("pair-query"), query.entry ? address(query.entry, "full") : query.image, "the query");
  facts($("pair-query-words"), query.entry ? entryFacts(query.entry) : [["file", query.name], ["modality", query.modality]]);
  put($("pair-result"), address(hit.entry, "full"), `the result at rank ${hit.rank}`);
  $("pair-rank").textContent = `Rank ${hit.rank}, distance ${hit.distance.toFixed(3)}`;
  facts($("pair-result-words"), entryFacts(hit.entry));
  $("pair-worth").hidden = false;
  $("pair-worth").textContent = worth(hit);
  $("pair-path").hidden = hit.entry.identity === null;
  $("pair-previous").disabled = place === 0;
  $("pair-next").disabled = place === hits.length - 1;
  if (!$("pair").open) {
    $("pair").showModal();
    $("pair-close").focus();
  } else if (document.activeElement?.disabled) $("pair-close").focus();
}

function step(by) {
  const place = shown.place + by;
  if (place >= 0 && place < shown.list.hits.length) compare(place, shown.list);
}

// ---- saving

function save(name, kind, text) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const stamp = () => new Date().toISOString().slice(0, 19).replaceAll(":", "-");

// The small image of an entry as a data address, null where there is none.
async function inlined(entry, wait) {
  const { signal } = new AbortController(); // nothing stops it
  try {
    return await read(await ask("GET", address(entry), null, { signal, wait, kind: "blob" }));
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

// No act: what is asked for meanwhile neither stops it nor is stopped.
async function savePage() {
  const list = answer;
  const { hits, query, words } = list;
  const progress = (text, done) => latest === search && answer === list && !running && busy(text, done);
  $("save-html").disabled = true; // once is enough
  progress("Collecting the images.", 0);
  try {
    const subject = {
      image: query.entry ? await inlined(query.entry, progress) : query.image,
      words: query.entry ? ["Query from the gallery", ...describe(query.entry), query.entry.name] : [`Query: ${query.name}`],
    };
    const collected = [];
    for (const hit of hits) {
      progress("Collecting the images.", collected.length / hits.length);
      collected.push({ ...hit, image: await inlined(hit.entry, progress), words: [...describe(hit.entry), hit.entry.name] });
    }
    const lines = [
      `Model ${info.model.name} (${info.model.fingerprint.slice(0, 16)})`,
      `Among ${plural(info.entries, "image")}${words ? `: ${words}` : ""}`,
      `Saved ${new Date().toISOString()}`,
    ];
    const note = document.querySelector(".notice p").textContent.replace(/\s+/g, " ").trim();
    save(`ranked-list-${stamp()}.html`, "text/html", html(subject, collected, lines, note));
    progress(`Saved ${plural(hits.length, "result")}.`);
  } catch (error) {
    progress("The list was not saved.");
    if (!(error instanceof Stopped)) complain(`The list was not saved. ${blame(error)}`);
  }
  $("save-html").disabled = $("save-csv").disabled;
  progress(null);
}

// ---- beginning

function prepare() {
  const parts = [plural(info.entries, "image")];
  if (info.cameras.length) parts.push(plural(info.cameras.length, "camera"));
  if (info.first) parts.push([...new Set([day(info.first), day(info.last)])].join(" to "));
  parts.push(`model ${info.model.name}`);
  $("about").textContent = parts.join(" · ");
  $("logout").hidden = !info.token;
  if (info.cameras.length > 1) {
    $("cameras").hidden = false;
    for (const camera of info.cameras) {
      const label = element("label");
      const tick = element("input");
      Object.assign(tick, { type: "checkbox", name: "camera", value: camera });
      label.append(tick, element("span", "", camera));
      label.title = camera;
      $("cameras").querySelector(".ticks").append(label);
    }
  }
  const hidden = new Set(["left", "top", "right", "bottom", "array_index", "crops"]);
  const columns = info.columns.filter((name) => !hidden.has(name));
  $("columns").hidden = !columns.length;
  for (const name of columns) {
    const option = element("option", "", name);
    option.value = name;
    $("filter").elements.column_name.append(option);
  }
  $("modality-line").hidden = info.modalities.length < 2;
  $("times").hidden = !info.first;
  $("zone").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
  $("rerank-line").hidden = !info.rerank;
  if (narrow()) $("filters").open = false;
  showQuery();
}

async function follow() {
  const key = decodeURIComponent(location.hash.match(/^#key=(.+)$/)?.[1] ?? "");
  const upload = uploads.get(history.state?.upload);
  leave();
  if (upload) return adopt(upload);
  if (!key) return browse();
  turnTo(follow);
  let entry = null;
  await act("Searching.", async (signal) => {
    entry = await ask("GET", `/api/entries/${encodeURIComponent(key)}`, null, { signal });
  });
  if (entry) return adopt({ entry });
  if (!running) turnTo(query ? search : browse); // it failed, and new filters would not mend that
}

function again() {
  answer = null;
  start = 0;
  turnTo(latest);
  $("pager").hidden = true;
  act("Filtering.", async (signal) => {
    await pause(0.25, signal);
    latest();
  });
}

function listen() {
  $("file").addEventListener("change", (event) => {
    offer(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // a place in the page is no address to go back to
    $("grid").focus();
  });
  $("from-gallery").addEventListener("click", async () => {
    if (await browse()) $("grid").querySelector("button")?.focus();
  });
  $("mark").addEventListener("click", () => mark(query.preview, query.box, (box) => {
    choose({ file: query.file, name: query.name, preview: query.preview, modality: query.modality, box });
  }));
  $("pair-path").addEventListener("click", () => followPerson(shown.list.hits[shown.place].entry.identity));
  $("path-close").addEventListener("click", () => $("path").close());
  $("path").addEventListener("click", (event) => {
    if (event.target === $("path")) $("path").close();
  });
  $("query-modality").addEventListener("change", () => query?.file && search());
  $("filter").addEventListener("change", again);
  $("filter").addEventListener("submit", (event) => { event.preventDefault(); again(); });
  $("filter").addEventListener("reset", () => setTimeout(again));
  $("show-gallery").addEventListener("click", () => browse());
  $("show-results").addEventListener("click", () => (answer ? act("Showing the results.", showResults) : search()));
  $("previous").addEventListener("click", () => turn(-PAGE));
  $("next").addEventListener("click", () => turn(PAGE));
  $("save-csv").addEventListener("click", () => save(`ranked-list-${stamp()}.csv`, "text/csv", csv(answer.hits)));
  $("save-html").addEventListener("click", savePage);
  $("error").querySelector("button").addEventListener("click", () => {
    complain("");
    // The keys of a dialog are heard while the focus is in it.
    $("error").nextElementSibling.querySelector("button")?.focus({ preventScroll: true });
  });

  for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("close", placeComplaint);
  $("pair-close").addEventListener("click", () => $("pair").close());
  $("pair-previous").addEventListener("click", () => step(-1));
  $("pair-next").addEventListener("click", () => step(1));
  $("pair-search").addEventListener("click", () => {
    choose({ entry: shown.list.hits[shown.place].entry });
  });
  $("pair").addEventListener("click", (event) => event.target === $("pair") && $("pair").close());
  $("pair").addEventListener("close", () => $("grid").children[shown.place]?.querySelector("button")?.focus());
  $("pair").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });

  $("grid").addEventListener("keydown", (event) => {
    const buttons = [...$("grid").querySelectorAll(".show")];
    const at = buttons.indexOf(event.target);
    if (at < 0) return;
    const columns = getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: buttons.length - 1 - at }[event.key];
    if (by === undefined || !buttons[at + by]) return;
    event.preventDefault();
    buttons[at + by].focus();
  });

  // Anywhere on the page, so that a near miss does not make the browser leave it to show the file.
  const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    $("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && $("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    $("drop").classList.remove("over");
    offer(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (!file) return;
    event.preventDefault();
    offer(file);
  });
  window.addEventListener("popstate", follow);
}

async function turn(by) {
  if (!(await browse(Math.max(0, start + by)))) return;
  $("stage").scrollIntoView();
  $("grid").focus({ preventScroll: true });
}

async function begin() {
  await act("Loading.", async (signal) => {
    info = await ask("GET", "/api/info", null, { signal });
  });
  document.body.classList.remove("loading");
  if (!info) return;
  prepare();
  listen();
  await follow();
}

begin();
