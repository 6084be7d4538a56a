/** The page's end of the worker: tasks as promises, with their states told on the way. */

export class Client {
  constructor(url) {
    this.worker = new Worker(url, { type: "module" });
    this.tasks = new Map();
    this.count = 0;
    this.worker.onmessage = ({ data }) => this.#hear(data);
    this.worker.onerror = (event) => this.#break(event.message);
  }

  /**
   * @param {string} task of the worker @param {object} asked what it needs
   * @param {{onState?: Function, onBytes?: Function}} told called on the way
   * @returns {{done: Promise<object | null>, cancel: () => void}} the last state, null if cancelled
   */
  run(task, asked, told = {}) {
    const id = (this.count += 1);
    const done = new Promise((resolve, reject) => this.tasks.set(id, { resolve, reject, ...told }));
    this.worker.postMessage({ id, task, asked });
    return { done, cancel: () => this.worker.postMessage({ id, task: "cancel" }) };
  }

  close() {
    this.worker.terminate();
  }

  #hear({ id, kind, state, bytes, message }) {
    const task = this.tasks.get(id);
    if (kind === "progress") return task.onBytes?.(bytes);
    if (kind === "state") return task.onState?.(state);
    this.tasks.delete(id);
    if (kind === "failed") return task.reject(new Error(message));
    return task.resolve(kind === "cancelled" ? null : state);
  }

  /** The worker itself could not run: nothing that was asked for will come. */
  #break(message) {
    for (const { reject } of this.tasks.values()) reject(new Error(message || "The worker could not start."));
    this.tasks.clear();
  }
}
