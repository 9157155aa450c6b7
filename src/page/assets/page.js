// @ts-check
// What a page does besides showing its text: charts of arrays, sorting of tables, the theme. All numbers come from the
// page's own data and from tiles (see tiles.rs). No text of a pipeline or of data is ever put into markup.
"use strict";

(() => {
  /**
   * @typedef {{name: string, length: number, width: number, whole: boolean, range: [number, number] | null}} ArrayNote
   * @typedef {{value: number, oracle: boolean, stage: string, how: string, moving: {line: ArrayNote, excess: ArrayNote} | null}} Threshold
   * @typedef {{stage: string, score: ArrayNote, is_logarithmic: boolean, threshold: Threshold | null}} Track
   * @typedef {"none" | {regular: {first: number, step: number}} | {listed: ArrayNote}} Times
   * @typedef {{id: string, entity: string, rows: number, breaks: number[], times: Times, labelled: boolean,
   *            events: [number, number][], tracks: Track[], channels: {name: string, values: ArrayNote}[]}} Scene
   * @typedef {{stage: string, channels: string[], horizon: number, context: number,
   *            windows: {entity: string, row: number, mse: number, time: number | null}[], values: ArrayNote}} Forecast
   * @typedef {{stage: string, axis: string, steps: (number | null)[], lines: [string, (number | null)[]][]}} Curve
   * @typedef {{trial: number, values: (number | string | null)[], objective: number}} SweepLine
   * @typedef {{axes: string[], metric: string, lower: boolean, ranked: boolean, lines: SweepLine[]}} Sweep
   * @typedef {{tile: number, overview: number, base?: string, scenes?: Scene[], forecasts?: Forecast[], curves?: Curve[], sweep?: Sweep}} Data
   */

  /** @type {Data} */
  const data = JSON.parse(document.getElementById("data")?.textContent ?? "{}");

  // Tiles ------------------------------------------------------------------------------------------------------------

  /** The bytes of a tile, still compressed.
   * @param {string} name
   * @returns {Promise<Uint8Array<ArrayBuffer>>} */
  async function packed(name) {
    if (data.base !== undefined) {
      const answer = await fetch(data.base + encodeURIComponent(name));
      if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
      return new Uint8Array(await answer.arrayBuffer());
    }
    const element = document.querySelector(`script[data-tile="${CSS.escape(name)}"]`);
    const text = atob(element?.textContent ?? "");
    const bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
    return bytes;
  }

  /** A tile as numbers.
   * @param {string} name
   * @param {number} width Bytes of a number.
   * @returns {Promise<Float32Array | Float64Array>} */
  async function tile(name, width) {
    const stream = new Blob([await packed(name)]).stream();
    const plain = stream.pipeThrough(new DecompressionStream("deflate-raw"));
    const sorted = new Uint8Array(await new Response(plain).arrayBuffer());
    const count = sorted.length / width;
    const bytes = new Uint8Array(sorted.length);
    for (let place = 0; place < width; place++) {
      const start = place * count;
      for (let index = 0; index < count; index++) bytes[index * width + place] = sorted[start + index];
    }
    return width === 4 ? new Float32Array(bytes.buffer) : new Float64Array(bytes.buffer);
  }

  /** All numbers of an array. @param {ArrayNote} note @returns {Promise<Float64Array>} */
  async function whole(note) {
    const all = new Float64Array(note.length);
    for (let start = 0; start < note.length; start += data.tile) {
      all.set(await tile(`${note.name}.${start / data.tile}`, note.width), start);
    }
    return all;
  }

  /** Says in a chart why it cannot be drawn. @param {HTMLElement} host @param {unknown} error */
  function failed(host, error) {
    const note = document.createElement("p");
    note.className = "notice";
    const isFile = location.protocol === "file:" && data.base !== undefined;
    note.textContent = isFile
      ? "A browser reads the rows of this folder from a web server alone: python3 -m http.server"
      : `This chart cannot be drawn: ${error instanceof Error ? error.message : error}`;
    host.replaceChildren(note);
  }

  /** Stretches that a level joins from the level below. */
  const JOINED = 8;
  /** Tiles of single rows that an array keeps. */
  const KEPT = 12;

  /** An array of which a chart shows a part: single rows where there is room for them, and otherwise the smallest and the
   * largest of every stretch, so that no spike is lost. */
  class Rows {
    /** @param {ArrayNote} note */
    constructor(note) {
      this.note = note;
      /** @type {Map<number, Float32Array | Float64Array>} */
      this.tiles = new Map();
      /** @type {Set<number>} */
      this.awaited = new Set();
      /** Smallest and largest in turns; each level joins stretches of the one before.
       * @type {(Float32Array | Float64Array)[]} */
      this.levels = [];
      /** Called when rows have come that were asked for. */
      this.arrived = () => {};
    }

    async load() {
      const pairs = 2 * Math.ceil(this.note.length / data.overview);
      const parts = [];
      for (let number = 0; number * data.tile < pairs; number++) {
        parts.push(await tile(`${this.note.name}.o.${number}`, this.note.width));
      }
      const first = new Float64Array(pairs);
      let place = 0;
      for (const part of parts) {
        first.set(part, place);
        place += part.length;
      }
      this.levels = [first];
      let level = /** @type {Float32Array | Float64Array} */ (first);
      while (level.length > 2 * JOINED) {
        level = joined(level);
        this.levels.push(level);
      }
      return this;
    }

    /** The value of a row, or the smallest and largest of the stretch it is in where the row itself is not at hand.
     * @param {number} row
     * @returns {{value: number} | {low: number, high: number}} */
    at(row) {
      const found = this.tiles.get(Math.floor(row / data.tile));
      if (found) return { value: found[row % data.tile] };
      const place = 2 * Math.floor(row / data.overview);
      return { low: this.levels[0][place], high: this.levels[0][place + 1] };
    }

    /** Points to draw between two rows.
     * @param {number} from
     * @param {number} to
     * @param {number} width Stretches that there is room for.
     * @returns {[number[], (number | null)[]]} */
    points(from, to, width) {
      from = Math.max(0, Math.floor(from));
      to = Math.min(this.note.length, Math.ceil(to) + 1);
      if (this.note.whole && (to - from) / data.overview < width && this.wanted(from, to)) {
        return this.single(from, to, width);
      }
      let size = data.overview;
      let level = 0;
      while (level + 1 < this.levels.length && (to - from) / size > 2 * width) {
        level++;
        size *= JOINED;
      }
      return stretches(this.levels[level], size, from, to, width, this.note.length - 1);
    }

    /** Whether the rows are here; asks for those that are not.
     * @param {number} from
     * @param {number} to */
    wanted(from, to) {
      let here = true;
      for (let number = Math.floor(from / data.tile); number * data.tile < to; number++) {
        if (this.tiles.has(number)) continue;
        here = false;
        if (this.awaited.has(number)) continue;
        this.awaited.add(number);
        tile(`${this.note.name}.${number}`, this.note.width)
          .then((values) => {
            if (this.tiles.size >= KEPT) this.tiles.delete([...this.tiles.keys()][0]);
            this.tiles.set(number, values);
            this.arrived();
          })
          // Without its rows, a chart shows the stretches that they are in.
          .catch(() => {})
          .finally(() => this.awaited.delete(number));
      }
      return here;
    }

    /** @param {number} from @param {number} to @param {number} width
     * @returns {[number[], (number | null)[]]} */
    single(from, to, width) {
      /** @type {number[]} */ const x = [];
      /** @type {(number | null)[]} */ const y = [];
      const step = Math.max(1, (to - from) / width);
      for (let place = 0, start = from; start < to; place++) {
        const end = Math.min(to, Math.max(start + 1, Math.floor(from + step * (place + 1))));
        let low = Infinity;
        let high = -Infinity;
        // A stretch may lie in two tiles.
        for (let row = start; row < end; ) {
          const number = Math.floor(row / data.tile);
          const values = this.tiles.get(number);
          const last = Math.min(end, (number + 1) * data.tile);
          const offset = number * data.tile;
          for (; values && row < last; row++) {
            const value = values[row - offset];
            if (value < low) low = value;
            if (value > high) high = value;
          }
          row = last;
        }
        if (end === start + 1) {
          x.push(start);
          y.push(low === Infinity ? null : low);
        } else {
          x.push(start, (start + end) / 2);
          y.push(low === Infinity ? null : low, high === -Infinity ? null : high);
        }
        start = end;
      }
      return [x, y];
    }
  }

  /** @param {number} value @returns {number | null} */
  function known(value) {
    return Number.isNaN(value) ? null : value;
  }

  /** A level above another. @param {Float32Array | Float64Array} level @returns {Float64Array} */
  function joined(level) {
    const stretchCount = Math.ceil(level.length / 2 / JOINED);
    const above = new Float64Array(2 * stretchCount);
    for (let stretch = 0; stretch < stretchCount; stretch++) {
      let low = NaN;
      let high = NaN;
      const end = Math.min(level.length / 2, (stretch + 1) * JOINED);
      for (let place = stretch * JOINED; place < end; place++) {
        if (!(level[2 * place] >= low)) low = Number.isNaN(level[2 * place]) ? low : level[2 * place];
        if (!(level[2 * place + 1] <= high)) high = Number.isNaN(level[2 * place + 1]) ? high : level[2 * place + 1];
      }
      above[2 * stretch] = low;
      above[2 * stretch + 1] = high;
    }
    return above;
  }

  /** @param {Float32Array | Float64Array} level @param {number} size @param {number} from @param {number} to
   * @param {number} width @param {number} end The last row.
   * @returns {[number[], (number | null)[]]} */
  function stretches(level, size, from, to, width, end) {
    /** @type {number[]} */ const x = [];
    /** @type {(number | null)[]} */ const y = [];
    const first = Math.floor(from / size);
    const last = Math.min(level.length / 2, Math.ceil(to / size));
    const step = Math.max(1, Math.floor((last - first) / width));
    for (let start = first; start < last; start += step) {
      let low = Infinity;
      let high = -Infinity;
      for (let place = start; place < Math.min(last, start + step); place++) {
        if (level[2 * place] < low) low = level[2 * place];
        if (level[2 * place + 1] > high) high = level[2 * place + 1];
      }
      // Both ends stand where the chart has room for them: what lies beside it would not be drawn.
      const left = Math.min(Math.max(start * size, from), end);
      x.push(left, Math.max(left, Math.min((start + step / 2) * size, to - 1, end)));
      y.push(low === Infinity ? null : low, high === -Infinity ? null : high);
    }
    return [x, y];
  }

  // Charts -----------------------------------------------------------------------------------------------------------

  /** Colours that were looked up; a change of the theme forgets them. @type {Map<string, string>} */
  const colours = new Map();

  /** A colour of the theme. @param {string} name */
  function colour(name) {
    let found = colours.get(name);
    if (found === undefined) {
      found = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
      colours.set(name, found);
    }
    return found;
  }

  /** A value exactly: the shortest text that stands for it alone in its width. @param {number} value @param {number} width */
  function exact(value, width) {
    if (Number.isNaN(value)) return "—";
    if (width === 8) return String(value);
    for (let digits = 6; digits < 9; digits++) {
      const text = Number(value.toPrecision(digits));
      if (Math.fround(text) === value) return String(text);
    }
    return String(Number(value.toPrecision(9)));
  }

  /** A number as a reader wants it. @param {number | null | undefined} value */
  function shown(value) {
    if (value === null || value === undefined || Number.isNaN(value)) return "—";
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e6 || size < 1e-4)) return value.toExponential(4);
    return String(Number(value.toPrecision(7)));
  }

  /** Numbers beside an axis, with as many digits as tell one from the next. @param {(number | null)[]} values */
  function ticks(values) {
    const known = values.filter((value) => value !== null);
    const step = known.length > 1 ? Math.min(...known.slice(1).map((value, place) => Math.abs(value - known[place]))) : Math.abs(known[0] ?? 1) / 10;
    const largest = Math.max(...known.map(Math.abs), 0);
    return values.map((value) => {
      if (value === null) return "";
      if (value === 0) return "0";
      if (largest >= 1e6 || largest < 1e-3) return value.toExponential(Math.max(0, Math.min(4, Math.floor(Math.log10(largest) + 1e-9) - Math.floor(Math.log10(step) + 1e-9))));
      return value.toFixed(Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9))));
    });
  }

  /** Powers of ten beside an axis. @param {(number | null)[]} values */
  function powers(values) {
    return values.map((value) => (value === null ? "" : Math.abs(Math.log10(value)) > 3 ? value.toExponential(0) : String(Number(value.toPrecision(3)))));
  }

  const AXIS = 64;
  const SCORE_HEIGHT = 170;
  const LANE_HEIGHT = 64;
  /** Channels that are shown until all are asked for. */
  const FIRST = 8;
  /** Rows that a chart shows at least. */
  const CLOSEST = 8;

  /** Scores and channels over the same rows. */
  class SceneChart {
    /** @param {HTMLElement} host @param {Scene} scene */
    constructor(host, scene) {
      this.host = host;
      this.scene = scene;
      this.from = 0;
      this.to = Math.max(1, scene.rows - 1);
      /** @type {{plot: any, rows: Rows, track: Track | null, readout: HTMLElement, name: string, moving: {line: Rows, excess: Rows} | null}[]} */
      this.lanes = [];
      /** @type {Rows | null} */
      this.times = null;
      this.asked = false;
      /** Places of the channels that are shown. @type {Set<number>} */
      this.revealed = new Set();
    }

    async build() {
      const times = this.scene.times;
      if (typeof times === "object" && "listed" in times) {
        this.times = await new Rows(times.listed).load();
        this.times.arrived = () => this.draw();
      }
      for (const track of this.scene.tracks) {
        await this.add(track.score, track.stage, track);
      }
      const channels = this.scene.channels;
      await this.reveal([...channels.keys()].slice(0, FIRST));
      if (channels.length > FIRST) {
        const more = document.createElement("button");
        more.type = "button";
        more.textContent = `Show all ${channels.length} channels`;
        more.dataset.all = "";
        more.addEventListener("click", async () => {
          more.remove();
          await this.reveal(channels.keys());
        });
        this.host.after(more);
      }
      this.listen();
      this.draw();
    }

    /** Shows channels that are not shown yet. @param {Iterable<number>} places */
    async reveal(places) {
      for (const place of places) {
        const channel = this.scene.channels[place];
        if (!channel || this.revealed.has(place)) continue;
        this.revealed.add(place);
        await this.add(channel.values, channel.name, null);
      }
      this.draw();
    }

    /** @param {ArrayNote} note @param {string} name @param {Track | null} track @param {Rows} [known] */
    async add(note, name, track, known) {
      const rows = known ?? (await new Rows(note).load());
      rows.arrived = () => this.draw();
      /** @type {{line: Rows, excess: Rows} | null} */
      let moving = null;
      if (track?.threshold?.moving) {
        const { line, excess } = track.threshold.moving;
        moving = { line: await new Rows(line).load(), excess: await new Rows(excess).load() };
        for (const each of [moving.line, moving.excess]) each.arrived = () => this.draw();
      }
      const element = document.createElement("div");
      element.className = track ? "lane track" : "lane";
      const label = document.createElement("div");
      label.className = "label";
      const title = document.createElement("bdi");
      title.textContent = name;
      const readout = document.createElement("output");
      label.append(title, " ", readout);
      element.append(label);
      this.host.append(element);
      const plot = new uPlot(
        {
          width: this.width(),
          height: track ? SCORE_HEIGHT : LANE_HEIGHT,
          padding: [6, 14, 0, 0],
          legend: { show: false },
          cursor: { drag: { x: true, y: false, setScale: false }, y: false, sync: { key: this.scene.id }, points: { show: false } },
          scales: { x: { time: false, range: () => [this.from, this.to] }, y: { distr: track?.is_logarithmic ? 3 : 1, range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => bounds(low, high, track) } },
          axes: [
            { show: track !== null, stroke: colour("quiet"), grid: { stroke: colour("grid") }, ticks: { stroke: colour("grid") }, values: (/** @type {any} */ _, /** @type {number[]} */ rows) => rows.map((row) => this.when(row)), space: 110 },
            { stroke: colour("quiet"), grid: { stroke: colour("grid") }, ticks: { stroke: colour("grid") }, size: AXIS, space: track ? 30 : 22, ...(track?.is_logarithmic ? { splits: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ low, /** @type {number} */ high) => decades(low, high), filter: (/** @type {any} */ _, /** @type {number[]} */ powers) => powers } : {}), values: (/** @type {any} */ _, /** @type {number[]} */ values) => (track?.is_logarithmic ? powers(values) : ticks(values)) },
          ],
          series: [{}, { stroke: colour(track ? "score" : "channel"), width: 1, spanGaps: false, points: { show: false } }],
          hooks: {
            drawClear: [(/** @type {any} */ plot) => this.under(plot)],
            draw: [(/** @type {any} */ plot) => this.over(plot, track, moving)],
            setSelect: [(/** @type {any} */ plot) => this.select(plot)],
            setCursor: [(/** @type {any} */ plot) => this.point(plot)],
          },
        },
        [[0], [null]],
        element,
      );
      this.lanes.push({ plot, rows, track, readout, name, moving });
    }

    width() {
      return Math.max(280, this.host.clientWidth);
    }

    /** Stretches that a chart has room for. */
    room() {
      return Math.max(100, this.width() - AXIS - 8);
    }

    /** The row as a reader wants it. @param {number} row */
    when(row) {
      const times = this.scene.times;
      let time = NaN;
      if (typeof times === "object" && "regular" in times) time = times.regular.first + times.regular.step * row;
      else if (this.times && row >= 0 && row < this.scene.rows) {
        const found = this.times.at(Math.round(row));
        time = "value" in found ? found.value : found.low;
      }
      const isTime = Math.abs(time) <= 8.64e15;
      if (!isTime) return String(Math.round(row * 10) / 10);
      const text = new Date(time).toISOString();
      return this.to - this.from < 2000 ? text.slice(5, 19).replace("T", " ") : text.slice(0, 16).replace("T", " ");
    }

    draw() {
      if (this.asked) return;
      this.asked = true;
      requestAnimationFrame(() => {
        this.asked = false;
        if (this.times) this.times.points(this.from, this.to, this.room());
        for (const lane of this.lanes) {
          lane.plot.setData(lane.rows.points(this.from, this.to, this.room()));
        }
      });
    }

    /** Shows these rows. @param {number} from @param {number} to */
    show(from, to) {
      const last = Math.max(1, this.scene.rows - 1);
      const span = Math.min(last, Math.max(CLOSEST, to - from));
      const middle = (from + to) / 2;
      this.from = Math.min(Math.max(0, middle - span / 2), last - span);
      this.to = this.from + span;
      this.host.dataset.from = String(Math.round(this.from));
      this.host.dataset.to = String(Math.round(this.to));
      this.draw();
    }

    /** Labelled events and the joints of segments, below the line. @param {any} plot */
    under(plot) {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.fillStyle = colour("event");
      for (const [start, end] of this.scene.events) {
        if (end < this.from || start > this.to) continue;
        const left = Math.max(bbox.left, plot.valToPos(start - 0.5, "x", true));
        const right = Math.min(bbox.left + bbox.width, plot.valToPos(end - 0.5, "x", true));
        ctx.fillRect(left, bbox.top, Math.max(1, right - left), bbox.height);
      }
      ctx.strokeStyle = colour("quiet");
      ctx.setLineDash([4, 4]);
      for (const row of this.scene.breaks) {
        if (row < this.from || row > this.to) continue;
        const x = plot.valToPos(row - 0.5, "x", true);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
      }
      ctx.restore();
    }

    /** The threshold and the alarms, above the line. @param {any} plot @param {Track | null} track
     * @param {{line: Rows, excess: Rows} | null} moving */
    over(plot, track, moving) {
      if (!track?.threshold) return;
      const { ctx, bbox } = plot;
      const level = track.threshold.value;
      const y = plot.valToPos(level, "y", true);
      ctx.save();
      ctx.strokeStyle = colour("alarm");
      ctx.fillStyle = colour("alarm");
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([6, 4]);
      if (moving) {
        const [x, values] = moving.line.points(this.from, this.to, this.room());
        ctx.beginPath();
        ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
        ctx.clip();
        ctx.beginPath();
        let isOpen = false;
        for (let place = 0; place < x.length; place++) {
          const value = values[place];
          // Rows that are not judged are held against the largest number.
          if (value === null || value === undefined || value > 3e38) isOpen = false;
          else {
            ctx[isOpen ? "lineTo" : "moveTo"](plot.valToPos(x[place], "x", true), plot.valToPos(value, "y", true));
            isOpen = true;
          }
        }
        ctx.stroke();
      } else if (y >= bbox.top && y <= bbox.top + bbox.height) {
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
      }
      // A strip at the top: a stretch has an alarm if its largest score lies above.
      const [x, values] = moving ? moving.excess.points(this.from, this.to, this.room()) : plot.data;
      for (let place = 0; place < x.length; place++) {
        const value = values[place];
        if (value === null || value === undefined || value <= (moving ? 0 : level)) continue;
        const end = place + 1 < x.length ? x[place + 1] : x[place] + 1;
        const left = Math.max(bbox.left, plot.valToPos(x[place] - 0.5, "x", true));
        const right = Math.min(bbox.left + bbox.width, plot.valToPos(end - 0.5, "x", true));
        if (right > bbox.left && left < bbox.left + bbox.width) {
          ctx.fillRect(left, bbox.top, Math.max(devicePixelRatio, right - left), 5 * devicePixelRatio);
        }
      }
      ctx.restore();
    }

    /** @param {any} plot */
    select(plot) {
      const { left, width } = plot.select;
      if (width > 3) this.show(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
      plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    }

    /** Says what is under the cursor. @param {any} plot */
    point(plot) {
      const left = plot.cursor.left;
      const isInside = left !== undefined && left >= 0;
      const row = isInside ? Math.round(plot.posToVal(left, "x")) : -1;
      for (const lane of this.lanes) {
        if (lane.plot !== plot) continue;
        if (row < 0 || row >= this.scene.rows) {
          lane.readout.textContent = "";
          continue;
        }
        const found = lane.rows.at(row);
        const width = lane.rows.note.width;
        const text = "value" in found ? exact(found.value, width) : `${exact(found.low, width)} … ${exact(found.high, width)}`;
        const name = typeof this.scene.times === "object" ? `row ${row}, ${this.when(row)}` : `row ${row}`;
        lane.readout.textContent = `${name}: ${text}`;
      }
    }

    listen() {
      const host = this.host;
      /** @type {{x: number, from: number, to: number} | null} */
      let grip = null;
      const scale = () => (this.to - this.from) / this.room();
      host.addEventListener("wheel", (event) => {
        // Elsewhere the wheel scrolls the page: charts are as high as a screen.
        if (!event.ctrlKey && document.activeElement !== host) return;
        event.preventDefault();
        const span = this.to - this.from;
        if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
          const way = (event.deltaX || event.deltaY) * scale();
          this.show(this.from + way, this.to + way);
          return;
        }
        const place = Math.min(1, Math.max(0, (event.clientX - host.getBoundingClientRect().left - AXIS) / this.room()));
        const next = Math.max(CLOSEST, span * Math.exp(event.deltaY / 400));
        const pinned = this.from + place * span;
        this.show(pinned - place * next, pinned + (1 - place) * next);
      }, { passive: false });
      host.addEventListener("mousedown", (event) => {
        host.focus({ preventScroll: true });
        if (!event.shiftKey) return;
        event.preventDefault();
        event.stopPropagation();
        grip = { x: event.clientX, from: this.from, to: this.to };
      }, true);
      addEventListener("mousemove", (event) => {
        if (!grip) return;
        const way = (grip.x - event.clientX) * ((grip.to - grip.from) / this.room());
        this.show(grip.from + way, grip.to + way);
      });
      addEventListener("mouseup", () => (grip = null));
      host.addEventListener("dblclick", () => this.show(0, this.scene.rows - 1));
      host.addEventListener("keydown", (event) => {
        // With these, keys belong to the browser.
        if (event.ctrlKey || event.altKey || event.metaKey) return;
        const span = this.to - this.from;
        const middle = (this.from + this.to) / 2;
        /** @type {Record<string, [number, number]>} */
        const moves = {
          ArrowLeft: [this.from - span / 8, this.to - span / 8],
          ArrowRight: [this.from + span / 8, this.to + span / 8],
          "+": [middle - span / 4, middle + span / 4],
          "=": [middle - span / 4, middle + span / 4],
          "-": [middle - span, middle + span],
          0: [0, this.scene.rows - 1],
        };
        const move = moves[event.key];
        if (!move) return;
        event.preventDefault();
        this.show(...move);
      });
      new ResizeObserver(() => {
        for (const lane of this.lanes) lane.plot.setSize({ width: this.width(), height: lane.track ? SCORE_HEIGHT : LANE_HEIGHT });
        this.draw();
      }).observe(host);
    }

    /** Draws again in the colours of the theme. */
    async restyle() {
      for (const lane of this.lanes) lane.plot.destroy();
      this.host.replaceChildren();
      const lanes = this.lanes;
      this.lanes = [];
      for (const lane of lanes) await this.add(lane.rows.note, lane.name, lane.track, lane.rows);
      this.draw();
    }
  }

  /** Where a scale begins and ends. @param {number} low @param {number} high @param {Track | null} track
   * @returns {[number, number]} */
  function bounds(low, high, track) {
    // A logarithmic axis has no zero.
    if (low === null || high === null) return track?.is_logarithmic ? [1, 10] : [0, 1];
    let [from, to] = [low, high];
    if (track?.threshold && track.threshold.value < to * 4 && track.threshold.value > from) {
      to = Math.max(to, track.threshold.value);
    }
    if (track?.is_logarithmic) return [from / 1.2, to * 1.5];
    const margin = (to - from || Math.abs(to) || 1) * 0.06;
    return [from - margin, to + margin];
  }

  /** Powers of ten for a logarithmic axis, six at most. @param {number} low @param {number} high */
  function decades(low, high) {
    const [first, last] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
    const step = Math.max(1, Math.ceil((last - first) / 5));
    const powers = [];
    for (let power = first; power <= last; power += step) powers.push(10 ** power);
    // Within one decade, its ends say more than nothing.
    return powers.length > 1 ? powers : [low, Math.sqrt(low * high), high];
  }

  /** What follows the width of a chart. @type {WeakMap<HTMLElement, ResizeObserver>} */
  const observers = new WeakMap();

  /** Lines over a common axis. @param {HTMLElement} host @param {number[]} x @param {string} axis
   * @param {{name: string, values: (number | null)[], colour: string, dash?: number[]}[]} lines */
  function lineChart(host, x, axis, lines) {
    host.replaceChildren();
    /** @type {any} */
    const plot = new uPlot(
      {
        width: Math.max(260, host.clientWidth),
        height: 220,
        scales: { x: { time: false } },
        axes: [
          { label: axis, labelSize: 20, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000, 1000000], stroke: colour("quiet"), grid: { stroke: colour("grid") }, ticks: { stroke: colour("grid") } },
          { stroke: colour("quiet"), grid: { stroke: colour("grid") }, ticks: { stroke: colour("grid") }, size: AXIS, values: (/** @type {any} */ _, /** @type {number[]} */ values) => ticks(values) },
        ],
        series: [
          { label: axis },
          ...lines.map((line) => ({ label: line.name, stroke: line.colour, width: 1.5, dash: line.dash, value: (/** @type {any} */ _, /** @type {number} */ value) => shown(value), points: { show: true, size: 4, filter: (/** @type {any} */ plot, /** @type {number} */ series) => alone(plot.data[series]) } })),
        ],
      },
      [x, ...lines.map((line) => line.values)],
      host,
    );
    observers.get(host)?.disconnect();
    const observer = new ResizeObserver(() => plot.setSize({ width: Math.max(260, host.clientWidth), height: 220 }));
    observer.observe(host);
    observers.set(host, observer);
  }

  /** Values that no line leads to: all of few, and otherwise those between gaps. @param {(number | null)[]} values */
  function alone(values) {
    const isGap = (/** @type {number} */ place) => values[place] === null || values[place] === undefined;
    const places = [...values.keys()].filter((place) => !isGap(place));
    const found = values.length < 40 ? places : places.filter((place) => isGap(place - 1) && isGap(place + 1));
    return found.length > 0 ? found : null;
  }

  const PALETTE = ["score", "alarm", "channel", "fourth", "fifth"];

  /** @param {Curve} curve @param {HTMLElement} host */
  function drawCurve(curve, host) {
    const x = curve.steps.map((step) => step ?? NaN);
    // A line of nothing, such as the validation loss of a training without validation rows, would only take room.
    const lines = curve.lines.filter(([name, values]) => values.some((value) => value !== null) && !/second|rate|^lr$/.test(name));
    lineChart(host, x, curve.axis, lines.map(([name, values], place) => ({ name, values, colour: colour(PALETTE[place % PALETTE.length]) })));
  }

  /** @param {Forecast} forecast @param {HTMLElement} host */
  async function drawForecast(forecast, host) {
    const chosen = (/** @type {string} */ part) => Number(/** @type {HTMLSelectElement | null} */ (host.parentElement?.querySelector(`[data-part="${part}"]`))?.value ?? 0);
    const width = forecast.context + 2 * forecast.horizon;
    const values = await whole(forecast.values);
    const draw = () => {
      const start = (chosen("window") * forecast.channels.length + chosen("channel")) * width;
      const part = Array.from(values.subarray(start, start + width), known);
      const before = part.slice(0, forecast.context);
      const none = before.map(() => null);
      const measured = part.slice(forecast.context, forecast.context + forecast.horizon);
      const predicted = part.slice(forecast.context + forecast.horizon);
      const x = [...before, ...measured].map((_, place) => place - forecast.context);
      lineChart(host, x, "step", [
        { name: "measured", values: [...before, ...measured], colour: colour("channel") },
        { name: "predicted", values: [...none, ...predicted], colour: colour("score") },
      ]);
    };
    host.parentElement?.querySelectorAll("select").forEach((select) => (select.onchange = draw));
    draw();
  }

  /** A line per trial over an axis per parameter; dragging along an axis keeps the trials that pass there.
   * @param {HTMLElement} host @param {Sweep} sweep */
  function coordinates(host, sweep) {
    host.replaceChildren();
    const [WIDTH, HEIGHT, TOP, SIDE] = [Math.max(320, host.clientWidth), 340, 40, 70];
    /** @type {(name: string, attributes: Record<string, string | number>, text?: string) => SVGElement} */
    const make = (name, attributes, text) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
      if (text !== undefined) element.textContent = text;
      return element;
    };
    const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "parallel" });
    const axes = [...sweep.axes.map((name, place) => ({ name, of: (/** @type {SweepLine} */ line) => line.values[place] })), { name: sweep.metric, of: (/** @type {SweepLine} */ line) => line.objective }];
    const drawn = axes.map((axis, place) => {
      const values = sweep.lines.map(axis.of);
      const known = values.filter((value) => value !== null);
      const isNumber = known.every((value) => typeof value === "number");
      const names = [...new Set(known.map(String))].sort();
      const numbers = isNumber ? known.map(Number) : [];
      const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
      // A range over orders of magnitude, such as of learning rates, is logarithmic.
      const isLogarithmic = isNumber && low > 0 && high / low > 50;
      const bent = (/** @type {number} */ value) => (isLogarithmic ? Math.log(value) : value);
      const share = (/** @type {any} */ value) => {
        if (!isNumber) return names.length > 1 ? names.indexOf(String(value)) / (names.length - 1) : 0.5;
        return high > low ? (bent(value) - bent(low)) / (bent(high) - bent(low)) : 0.5;
      };
      const x = axes.length > 1 ? SIDE + (place / (axes.length - 1)) * (WIDTH - 2 * SIDE) : WIDTH / 2;
      const y = (/** @type {any} */ value) => HEIGHT - 26 - share(value) * (HEIGHT - TOP - 26);
      svg.append(make("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - 26 }));
      svg.append(make("text", { x, y: 14, "text-anchor": place === 0 ? "start" : place === axes.length - 1 ? "end" : "middle", dx: place === 0 ? -SIDE + 6 : place === axes.length - 1 ? SIDE - 6 : 0 }, axis.name.length > 22 ? `${axis.name.slice(0, 21)}…` : axis.name));
      const marks = isNumber ? [low, high].filter((value, index, all) => Number.isFinite(value) && all.indexOf(value) === index) : names.slice(0, 12);
      for (const mark of marks) svg.append(make("text", { x: x + 5, y: y(mark) + (mark === high && isNumber ? -4 : 12), class: "quiet" }, typeof mark === "number" ? shown(mark) : mark));
      return { ...axis, x, y, kept: /** @type {[number, number] | null} */ (null), brush: make("rect", { class: "brush", x: x - 9, width: 18, y: 0, height: 0, visibility: "hidden" }) };
    });
    const best = sweep.ranked && [...sweep.lines].sort((left, right) => (sweep.lower ? left.objective - right.objective : right.objective - left.objective))[0];
    const lines = sweep.lines.map((line) => {
      const points = drawn.filter((axis) => axis.of(line) !== null).map((axis) => `${axis.x},${axis.y(axis.of(line))}`);
      const element = make("polyline", { points: points.join(" "), class: line === best ? "best" : "" });
      element.append(make("title", {}, `trial ${line.trial}: ${sweep.metric} ${shown(line.objective)}`));
      svg.append(element);
      return { line, element };
    });
    const chosen = document.getElementById("chosen");
    /** @type {SVGElement[]} */
    const grips = [];
    const apply = () => {
      let count = 0;
      for (const { line, element } of lines) {
        const isIn = drawn.every((axis) => axis.kept === null || (axis.of(line) !== null && axis.y(axis.of(line)) >= axis.kept[0] && axis.y(axis.of(line)) <= axis.kept[1]));
        element.classList.toggle("off", !isIn);
        count += isIn ? 1 : 0;
      }
      if (chosen) chosen.textContent = `${count} of ${lines.length} trials`;
      for (const grip of grips) {
        grip.setAttribute("aria-valuenow", String(count));
        grip.setAttribute("aria-valuetext", `${count} of ${lines.length} trials`);
      }
    };
    for (const axis of drawn) {
      svg.append(axis.brush);
      const grip = make("rect", { x: axis.x - 14, y: TOP - 8, width: 28, height: HEIGHT - TOP - 10, fill: "transparent" });
      grip.style.cursor = "ns-resize";
      for (const [name, value] of Object.entries({ tabindex: "0", role: "slider", "aria-orientation": "vertical", "aria-label": `Range of ${axis.name}: arrows move its upper end, with shift its lower end; Escape keeps all`, "aria-valuemin": "0", "aria-valuemax": String(lines.length) })) grip.setAttribute(name, value);
      grips.push(grip);
      const show = () => {
        axis.brush.setAttribute("visibility", axis.kept ? "visible" : "hidden");
        if (axis.kept) {
          axis.brush.setAttribute("y", String(axis.kept[0]));
          axis.brush.setAttribute("height", String(axis.kept[1] - axis.kept[0]));
        }
        apply();
      };
      grip.addEventListener("keydown", (event) => {
        const [first, last] = [TOP - 8, HEIGHT - 18];
        const step = event.key === "ArrowDown" ? (last - first) / 20 : event.key === "ArrowUp" ? (first - last) / 20 : 0;
        if (step === 0 && event.key !== "Escape") return;
        event.preventDefault();
        let [top, bottom] = axis.kept ?? [first, last];
        if (event.shiftKey) bottom = Math.min(last, Math.max(top, bottom + step));
        else top = Math.max(first, Math.min(bottom, top + step));
        const isWhole = step === 0 || (top === first && bottom === last);
        axis.kept = isWhole ? null : [top, bottom];
        show();
      });
      const at = (/** @type {PointerEvent} */ event) => ((event.clientY - svg.getBoundingClientRect().top) / svg.getBoundingClientRect().height) * HEIGHT;
      grip.addEventListener("pointerdown", (event) => {
        const start = at(event);
        grip.setPointerCapture(event.pointerId);
        const move = (/** @type {PointerEvent} */ event) => {
          axis.kept = [Math.min(start, at(event)), Math.max(start, at(event))];
          show();
        };
        const end = () => {
          grip.removeEventListener("pointermove", move);
          if (axis.kept === null || axis.kept[1] - axis.kept[0] < 3) {
            axis.kept = null;
            show();
          }
        };
        axis.kept = null;
        grip.addEventListener("pointermove", move);
        grip.addEventListener("pointerup", end, { once: true });
        grip.addEventListener("pointercancel", end, { once: true });
      });
      svg.append(grip);
    }
    host.append(svg);
    apply();
  }

  // The page ---------------------------------------------------------------------------------------------------------

  /** @type {Map<string, SceneChart>} */
  const charts = new Map();

  /** Builds the chart of a scene once it is seen. @param {Scene} scene */
  async function open(scene) {
    if (charts.has(scene.id)) return charts.get(scene.id);
    const host = /** @type {HTMLElement | null} */ (document.querySelector(`[data-scene="${CSS.escape(scene.id)}"]`));
    if (!host) return undefined;
    const chart = new SceneChart(host, scene);
    charts.set(scene.id, chart);
    try {
      await chart.build();
    } catch (error) {
      charts.delete(scene.id);
      failed(host, error);
      return undefined;
    }
    host.dataset.ready = "";
    return chart;
  }

  /** Sorts a table by a column: numbers by value, the largest first; text by letters. @param {HTMLTableElement} table
   * @param {number} column @param {HTMLElement} head */
  function sort(table, column, head) {
    const isNumber = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const isFalling = before === null ? isNumber : before === "ascending";
    const key = (/** @type {HTMLTableRowElement} */ row) => {
      const cell = row.cells[column];
      return (cell?.dataset.value ?? cell?.textContent ?? "").trim();
    };
    const rows = [...table.tBodies[0].rows];
    rows.sort((left, right) => {
      const [a, b] = [key(left), key(right)];
      const isEmpty = (/** @type {string} */ text) => text === "" || (isNumber && Number.isNaN(Number.parseFloat(text)));
      if (isEmpty(a) || isEmpty(b)) return (isEmpty(a) ? 1 : 0) - (isEmpty(b) ? 1 : 0);
      const [x, y] = [Number.parseFloat(a.replace(/,/g, "")), Number.parseFloat(b.replace(/,/g, ""))];
      const order = isNumber ? x - y : a.localeCompare(b);
      return isFalling ? -order : order;
    });
    table.tBodies[0].append(...rows);
    for (const other of table.tHead?.rows[0].cells ?? []) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", isFalling ? "descending" : "ascending");
  }

  function sortable() {
    for (const table of /** @type {NodeListOf<HTMLTableElement>} */ (document.querySelectorAll("table.sortable"))) {
      [...(table.tHead?.rows[0].cells ?? [])].forEach((head, column) => {
        if (head.querySelector("button")) return;
        const button = document.createElement("button");
        button.type = "button";
        button.append(...head.childNodes);
        button.addEventListener("click", () => sort(table, column, head));
        head.append(button);
      });
    }
  }

  /** Opens what a link leads to. */
  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let element = /** @type {HTMLElement | null} */ (target); element; element = element.parentElement) {
      if (element instanceof HTMLDetailsElement) element.open = true;
    }
    target.scrollIntoView();
  }

  function themes() {
    const root = document.documentElement;
    const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    const again = () => {
      colours.clear();
      for (const chart of charts.values()) chart.restyle();
      drawSmall();
    };
    document.getElementById("theme")?.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      again();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  }

  function drawSmall() {
    (data.curves ?? []).forEach((curve, index) => {
      const host = /** @type {HTMLElement | null} */ (document.querySelector(`[data-curve="${index}"]`));
      if (host) drawCurve(curve, host);
    });
    (data.forecasts ?? []).forEach((forecast, index) => {
      const host = /** @type {HTMLElement | null} */ (document.querySelector(`[data-forecast-chart="${index}"]`));
      if (host) drawForecast(forecast, host).catch((error) => failed(host, error));
    });
  }

  function drawSweep() {
    const host = document.getElementById("coordinates");
    if (host && data.sweep) coordinates(host, data.sweep);
  }

  /** Fetches parts of the page again while something is under way. What the reader opened, ticked or scrolled stays. */
  function follow() {
    for (const element of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-live]"))) {
      const again = async () => {
        try {
          const answer = await fetch(location.href, { headers: { "runner-part": "1" } });
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const fresh = page.getElementById(element.id);
          // An error, such as that of a server that was restarted, says nothing about the run.
          if (answer.ok && (!fresh || fresh.dataset.live === undefined)) return location.reload();
          if (answer.ok && fresh) renew(element, fresh);
        } catch {
          // The program has ended, or the tunnel: what is shown stays.
        }
        setTimeout(again, LOOK);
      };
      setTimeout(again, LOOK);
    }
  }

  /** Milliseconds between two looks at what is under way. */
  const LOOK = 1500;

  /** Puts new content in the place of old. @param {HTMLElement} old @param {HTMLElement} fresh */
  function renew(old, fresh) {
    const ticked = new Set([...old.querySelectorAll("input:checked")].map((box) => /** @type {HTMLInputElement} */ (box).value));
    const open = new Map([...old.querySelectorAll("details")].map((part) => [part.dataset.name, part.open]));
    const scrolled = new Map([...old.querySelectorAll("details")].map((part) => [part.dataset.name, part.querySelector("pre")?.scrollTop ?? 0]));
    const focused = document.activeElement instanceof HTMLInputElement && old.contains(document.activeElement) ? document.activeElement.value : null;
    for (const box of /** @type {NodeListOf<HTMLInputElement>} */ (fresh.querySelectorAll("input"))) box.checked = ticked.has(box.value);
    for (const part of fresh.querySelectorAll("details")) part.open = open.get(part.dataset.name) ?? part.open;
    old.replaceChildren(...fresh.childNodes);
    for (const part of old.querySelectorAll("details")) {
      const text = part.querySelector("pre");
      if (text) text.scrollTop = scrolled.get(part.dataset.name) ?? 0;
    }
    for (const box of /** @type {NodeListOf<HTMLInputElement>} */ (old.querySelectorAll("input"))) if (box.value === focused) box.focus();
  }

  async function start() {
    sortable();
    themes();
    drawSmall();
    drawSweep();
    const scenes = data.scenes ?? [];
    const choice = /** @type {HTMLSelectElement | null} */ (document.querySelector('[data-choose="scene"]'));
    choice?.addEventListener("change", () => {
      for (const scene of scenes) {
        const element = document.getElementById(scene.id);
        if (element) element.hidden = scene.id !== choice.value;
      }
      const scene = scenes.find((scene) => scene.id === choice.value);
      if (scene) open(scene);
    });
    document.addEventListener("click", async (event) => {
      const button = event.target instanceof Element && event.target.closest("[data-jump]");
      if (!(button instanceof HTMLElement)) return;
      const scene = scenes.find((scene) => scene.id === button.dataset.jump);
      const chart = scene && (await open(scene));
      if (!chart) return;
      const [from, to] = [Number(button.dataset.from), Number(button.dataset.to)];
      const margin = Math.max(20, to - from);
      chart.show(from - margin, to + margin);
      await chart.reveal((button.dataset.channels ?? "").split(" ").filter(Boolean).map(Number));
      chart.host.scrollIntoView({ block: "nearest" });
    });
    addEventListener("hashchange", reveal);
    reveal();
    follow();
    if (scenes.length > 0) await open(scenes[0]);
  }

  // For tests, and for those who want the numbers behind a chart.
  Object.assign(window, { runnerPage: { data, charts, ready: start() } });
})();
