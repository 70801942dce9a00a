// What a live list holds: events as they come, newest on top, or kept waiting while it is paused.

/** A list of at most `most` rows. `changed` is told whenever one of its numbers is another. */
export class Feed {
  #list;
  #most;
  #changed;
  #parser = document.createElement("template");
  #seen = new Set();
  #waiting = [];
  #arrived = [];
  #isDue = false;
  #isPaused = false;
  #left = 0;
  #passed = 0;

  constructor(list, most, changed) {
    this.#list = list;
    this.#most = most;
    this.#changed = changed;
    for (const row of list.children) this.#seen.add(row.dataset.event);
  }

  /** How many came while the list was held, those included that newer ones pushed out. */
  get waiting() {
    return this.#waiting.length + this.#passed;
  }

  /** How many newer ones pushed out. */
  get left() {
    return this.#left;
  }

  get isPaused() {
    return this.#isPaused;
  }

  /** Takes an event, unless it is there: its id, and its row as markup of the service's own. */
  add(id, markup) {
    if (this.#seen.has(id)) return;
    this.#seen.add(id);
    (this.#isPaused ? this.#waiting : this.#arrived).push(markup);
    if (this.#waiting.length > this.#most) {
      this.#waiting.shift();
      this.#passed += 1;
    }
    if (this.#arrived.length > this.#most) {
      this.#arrived.shift();
      this.#left += 1;
    }
    this.#show();
  }

  /** Holds the list still, or lets it go on with all that waited. */
  pause(isPaused) {
    this.#isPaused = isPaused;
    if (!isPaused) {
      this.#arrived.push(...this.#waiting.splice(0));
      this.#left += this.#passed;
      this.#passed = 0;
    }
    this.#show();
  }

  /** Many events may come between two pictures of the screen; they are put there together. */
  #show() {
    if (this.#isDue) return;
    this.#isDue = true;
    setTimeout(() => {
      this.#isDue = false;
      const count = this.#put();
      this.#changed(count);
    }, 100);
  }

  #put() {
    const markups = this.#arrived.splice(0).slice(-this.#most);
    if (markups.length > 0) {
      this.#parser.innerHTML = markups.reverse().join("");
      for (const row of this.#parser.content.children) row.classList.add("is-new");
      this.#list.prepend(this.#parser.content);
    }
    while (this.#list.childElementCount > this.#most) {
      this.#list.lastElementChild.remove();
      this.#left += 1;
    }
    // What left the list long ago won't come again: the stream goes on behind what was got last.
    if (this.#seen.size > 10 * this.#most) {
      this.#seen = new Set([...this.#seen].slice(-2 * this.#most));
    }
    return markups.length;
  }
}
