import { onBeforeUnmount, shallowRef, type ShallowRef } from 'vue';
import type { FromWorker, ToWorker, TrainingRequest } from './messages.js';
import { after, started, untrained, type LiveSession } from './session.js';

/** The worker as the page sees it. */
export interface Live {
  readonly session: ShallowRef<LiveSession>;
  train(request: TrainingRequest): void;
  stop(): void;
  /** Sets SoRA's threshold, also during training. */
  steer(threshold: number): void;
  predict(text: string): void;
  /** Requests the adapter as a zip file, which the browser then saves. */
  download(): void;
}

/** Starts the worker at the first training run, and terminates it when the page closes. */
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
    session.value = after(started(session.value), { kind: 'failed', reason }); // its adapter is gone
  };
  const open = (): Worker => {
    const opened = new Worker(new URL('./worker/worker.ts', import.meta.url), { type: 'module', name: 'peftjs' });
    opened.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => receive(data));
    opened.addEventListener('error', ({ message }) =>
      fail(`The page's worker failed (${message || 'it did not load'}). Reload the page, or use a current browser.`),
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
        fail('Web workers are missing or disabled in this browser, and training needs one.');
      }
      post({ kind: 'train', ...request });
    },
    stop: () => post({ kind: 'stop' }),
    steer: (threshold) => post({ kind: 'threshold', threshold }),
    predict: (text) => post({ kind: 'predict', text }),
    download: () => post({ kind: 'save' }),
  };
}

/** Downloads bytes as a file. */
function offer(name: string, bytes: Uint8Array<ArrayBuffer>): void {
  const address = URL.createObjectURL(new Blob([bytes], { type: 'application/zip' }));
  const link = Object.assign(document.createElement('a'), { href: address, download: name });
  link.click();
  URL.revokeObjectURL(address);
}
