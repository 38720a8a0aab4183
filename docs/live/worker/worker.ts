/** The worker of the live page: connects the trainer to the page's messages and the site's files. */
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { LESSON, MODEL, type FileSizes } from '../lesson-files.js';
import type { FromWorker, ToWorker } from '../messages.js';
import { openDevice } from './device.js';
import { liveTrainer } from './live-trainer.js';
import { fetchBytes, siteFiles } from './site-files.js';

const root = new URL(`${import.meta.env.BASE_URL}lesson/`, self.location.origin);

function tell(message: FromWorker): void {
  self.postMessage(message, { transfer: message.kind === 'adapter' ? [message.zip.buffer] : [] });
}

/** The most recently loaded model. */
let newest: PretrainedModel | undefined;

async function loadModel(labels: readonly string[], signal: AbortSignal): Promise<PretrainedModel> {
  if (newest?.labels?.join('\n') === labels.join('\n')) return newest;
  const sizes = JSON.parse(
    new TextDecoder().decode(await fetchBytes(new URL(LESSON.sizes, root), signal)),
  ) as FileSizes;
  const model = await fromPretrained(MODEL, {
    labels,
    storage: siteFiles(new URL(LESSON.models, root), sizes, signal),
    onProgress: ({ loadedBytes, totalBytes }) => tell({ kind: 'loading', loadedBytes, totalBytes }),
  });
  newest = model;
  return model;
}

const handle = liveTrainer({ openDevice: () => openDevice(new URL(LESSON.runtime, root).href), loadModel }, tell);

self.addEventListener('message', ({ data }: MessageEvent<ToWorker>) => void handle(data));
