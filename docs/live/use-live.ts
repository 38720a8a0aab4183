import { onBeforeUnmount, shallowRef, type ShallowRef } from 'vue';
import type { FromWorker, ToWorker, TrainingRequest } from './messages.js';
import { after, started, untrained, type LiveSession } from './session.js';

/** The page's side of the worker. */
export interface Live {
  readonly session: ShallowRef<LiveSession>;
  train(request: TrainingRequest): void;
  stop(): void;
  /** Moves SoRA's threshold, at once if it trains. */
  steer(threshold: number): void;
  predict(text: string): void;
  /** Has the adapter packed; the browser then saves it. */
  download(): void;
}

/** Opens the worker when it is first needed, and ends it with the page. */
export function useLive(): Live {
  const session = shallowRef(untrained);
  let worker: Worker | undefined;

  const receive = (message: FromWorker): void => {
    if (message.kind === 'adapter') offer(message.name, message.zip);
    session.value = after(session.value, message);
  };
  const fail = (reason: string): void => {
    worker?.terminate();
    worker = undefined;
    receive({ kind: 'failed', reason });
  };
  const open = (): Worker => {
    const opened = new Worker(new URL('./worker/worker.ts', import.meta.url), { type: 'module', name: 'peftjs' });
    opened.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => receive(data));
    opened.addEventListener('error', ({ message }) =>
      fail(`The page's worker failed (${message || 'it did not load'}): reload the page, or use a current browser.`),
    );
    return opened;
  };
  const post = (message: ToWorker): void => worker?.postMessage(message);

  onBeforeUnmount(() => worker?.terminate());
  return {
    session,
    train(request) {
      session.value = started(session.value);
      try {
        worker ??= open();
      } catch {
        fail('This browser has no workers, or they are switched off: the page cannot train without one.');
      }
      post({ kind: 'train', ...request });
    },
    stop: () => post({ kind: 'stop' }),
    steer: (threshold) => post({ kind: 'threshold', threshold }),
    predict: (text) => post({ kind: 'predict', text }),
    download: () => post({ kind: 'save' }),
  };
}

/** Gives the reader a file. */
function offer(name: string, bytes: Uint8Array<ArrayBuffer>): void {
  const address = URL.createObjectURL(new Blob([bytes], { type: 'application/zip' }));
  const link = Object.assign(document.createElement('a'), { href: address, download: name });
  link.click();
  URL.revokeObjectURL(address);
}
