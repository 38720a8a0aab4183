/**
 * Lets the event loop handle what has arrived, such as the message of a button that stops a training: computations may
 * otherwise follow each other in microtasks, without a pause.
 *
 * Not `setTimeout`, which browsers delay by 4 ms, and by a second in hidden tabs, nor `scheduler.yield`, whose
 * continuation precedes other events.
 */
export function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    if (host.setImmediate) {
      host.setImmediate(resolve);
      return;
    }
    const { port1, port2 } = new MessageChannel();
    port1.addEventListener('message', () => {
      port1.close();
      resolve();
    });
    port1.start();
    port2.postMessage(null);
  });
}

/** Node has `setImmediate`, browsers do not. */
const host = globalThis as { readonly setImmediate?: (resolve: () => void) => unknown };
