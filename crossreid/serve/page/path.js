// A person's path over cameras and time.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 760, LEFT = 120, ROW = 34, TOP = 30;

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A name within other words, which keep their direction whatever scripts and overrides it holds.
export const isolated = (name) => (/[^\0-\u024f]/.test(name) ? `\u2068${name.replace(/[\u2066-\u2069]/g, "")}\u2069` : name);

// Entries with when they were seen, in seconds, the earliest first; those without a time come last.
export function moments(entries) {
  const seen = entries.map((entry) => {
    const taken = entry.time === null ? NaN : new Date(entry.time).getTime() / 1000;
    const start = Number(entry.columns.start ?? taken);
    return { entry, start, end: Number(entry.columns.end ?? start) };
  });
  const key = (each) => (Number.isNaN(each.start) ? Infinity : each.start);
  return seen.sort((one, other) => key(one) - key(other));
}

// Seconds since 1970 are told as a time of day, those of a video as minutes and seconds.
function told(seconds) {
  if (seconds > 1e8) return new Date(1000 * seconds).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

// A row for each camera, a bar for each time the person was seen there, and a line from one to the next.
export function chart(seen) {
  const known = seen.filter((each) => !Number.isNaN(each.start));
  const camera = (each) => `camera ${isolated(each.entry.camera ?? "not known")}`;
  const cameras = [...new Set(known.map(camera))];
  const height = TOP + ROW * cameras.length + 10;
  const drawing = shape("svg", { viewBox: `0 0 ${WIDTH} ${height}`, width: WIDTH, height, role: "img", class: "path" });
  if (!known.length) return document.createTextNode("No time is known of any of them.");
  const first = Math.min(...known.map((each) => each.start));
  const last = Math.max(...known.map((each) => each.end), first + 1);
  const x = (seconds) => LEFT + ((seconds - first) / (last - first)) * (WIDTH - LEFT - 20);
  const y = (each) => TOP + ROW * cameras.indexOf(camera(each)) + ROW / 2;
  drawing.append(shape("title", {}, known.map((each) => `${camera(each)} at ${told(each.start)}`).join(", ")));
  drawing.append(shape("text", { x: LEFT, y: 16 }, told(first)));
  drawing.append(shape("text", { x: WIDTH - 20, y: 16, "text-anchor": "end" }, told(last)));
  cameras.forEach((name, at) => {
    const level = TOP + ROW * at + ROW / 2;
    drawing.append(shape("text", { x: 4, y: level + 5 }, name));
    drawing.append(shape("line", { x1: LEFT, x2: WIDTH - 20, y1: level, y2: level, class: "rail" }));
  });
  known.forEach((each, at) => {
    const next = known[at + 1];
    if (next) drawing.append(shape("line", { x1: x(each.end), y1: y(each), x2: x(next.start), y2: y(next), class: "way" }));
    const bar = { x: x(each.start), y: y(each) - 7, width: Math.max(x(each.end) - x(each.start), 5), height: 14, rx: 4 };
    drawing.append(shape("rect", { ...bar, class: "seen" }));
  });
  return drawing;
}
