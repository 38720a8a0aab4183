import type { Encoding } from '@peftjs/models';
import { adapterOf, type Inference, type PipelineParts } from './inference.js';

/** Computes the outputs for each text, in the given order. */
export type Outputs = Inference['outputs'];

/** A text that waits for its outputs. */
interface Waiting {
  readonly text: Encoding;
  readonly adapter: string | undefined;
  resolve(outputs: Float32Array): void;
  reject(error: unknown): void;
}

/**
 * Lets concurrent calls of `compute` share batches if the pipeline does so: the texts of calls that arrive while a
 * batch is computed make up the next ones. A call that finds nothing running starts at once, so no call waits for a
 * timer. A call that fills a batch by itself, or mixes adapters, is computed as it is.
 */
export function sharing(
  { shareBatches, batchSize }: Pick<PipelineParts, 'shareBatches' | 'batchSize'>,
  compute: Outputs,
): Outputs {
  if (!shareBatches) return compute;
  let waiting: Waiting[] = []; // the oldest first
  let isRunning = false;
  const run = async (): Promise<void> => {
    if (isRunning) return;
    isRunning = true;
    while (waiting.length > 0) {
      const batch = nextBatch(waiting, batchSize);
      waiting = waiting.filter((each) => !batch.includes(each));
      await settle(batch, compute);
    }
    isRunning = false;
  };
  return (texts, choice) => {
    const isMixed = typeof choice === 'object' && new Set(choice).size > 1;
    if (isMixed || texts.length >= batchSize) return compute(texts, choice);
    const adapter = adapterOf(choice, 0);
    const own = texts.map(
      (text) =>
        new Promise<Float32Array>((resolve, reject) => {
          waiting.push({ text, adapter, resolve, reject });
        }),
    );
    void run();
    return Promise.all(own);
  };
}

/**
 * Returns the text that has waited longest, and those of its adapter that are most similar to it in length. Mixed
 * batches would be compiled for every set of adapters that waits.
 */
function nextBatch(waiting: readonly Waiting[], batchSize: number): readonly Waiting[] {
  const [oldest] = waiting as readonly [Waiting, ...Waiting[]];
  const distance = ({ text }: Waiting): number => Math.abs(text.ids.length - oldest.text.ids.length);
  return waiting
    .filter(({ adapter }) => adapter === oldest.adapter)
    .sort((a, b) => distance(a) - distance(b))
    .slice(0, batchSize);
}

/** Gives each text its outputs. If the batch fails, each is computed alone, so that an error stays with its call. */
async function settle(batch: readonly Waiting[], compute: Outputs): Promise<void> {
  const [first] = batch as readonly [Waiting, ...Waiting[]];
  try {
    const texts = batch.map(({ text }) => text);
    const outputs = await compute(texts, first.adapter);
    batch.forEach(({ resolve }, index) => resolve(outputs[index] as Float32Array));
  } catch (error) {
    if (batch.length === 1) first.reject(error);
    else for (const each of batch) await settle([each], compute);
  }
}
