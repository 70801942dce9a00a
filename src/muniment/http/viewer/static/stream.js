// A stream of events that comes back by itself, and says how it does.

const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 30_000;

/**
 * Opens `url`. `got(id, data)` is called for each event, `told(state, seconds)` when the connection
 * is "open", is "lost" and tried again, or was "refused" and is tried again in so many seconds; it
 * is "over" if it was refused because nobody is signed in any more.
 */
export class Stream {
  #url;
  #got;
  #told;
  #source = null;
  #last = null;
  #wait = FIRST_WAIT;

  constructor(url, got, told) {
    this.#url = url;
    this.#got = got;
    this.#told = told;
    addEventListener("online", () => this.open());
  }

  /** Connects, behind the last event that was got. */
  open() {
    this.#source?.close();
    const url = new URL(this.#url, location.href);
    // The browser sends Last-Event-ID when it reconnects by itself, not on a new connection.
    if (this.#last !== null) url.searchParams.set("after", this.#last);
    const source = new EventSource(url);
    this.#source = source;
    source.addEventListener("open", () => {
      this.#wait = FIRST_WAIT;
      this.#told("open");
    });
    source.addEventListener("event", (event) => {
      this.#last = event.lastEventId;
      this.#got(event.lastEventId, event.data);
    });
    source.addEventListener("error", () => this.#failed(source));
  }

  #failed(source) {
    if (source !== this.#source) return;
    if (source.readyState !== EventSource.CLOSED) {
      this.#told("lost"); // the browser tries again
      return;
    }
    this.#refused(source);
  }

  // Too many tails are open, the session is over, or a proxy answers instead: the browser won't say.
  async #refused(source) {
    const wait = this.#wait;
    this.#wait = Math.min(2 * wait, LONGEST_WAIT);
    let isOver = false;
    try {
      isOver = (await fetch(source.url, { method: "HEAD" })).status === 401;
    } catch {
      // it can't be reached either
    }
    if (source !== this.#source) return;
    this.#told(isOver ? "over" : "refused", Math.round(wait / 1_000));
    setTimeout(() => source === this.#source && this.open(), wait);
  }
}
