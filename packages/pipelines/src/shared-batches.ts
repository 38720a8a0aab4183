import type { Encoding } from '@peftjs/models';
import { adapterOf, type AdapterChoice, type PipelineParts } from './inference.js';

/** Computes the answer for each text, in the given order. */
export type Compute<Answer> = (texts: readonly Encoding[], choice: AdapterChoice) => Promise<Answer[]>;

/** A text that waits for its answer. */
interface Waiting<Answer> {
  readonly text: Encoding;
  readonly adapter: string | undefined;
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

/**
 * Lets concurrent calls of `compute` share batches if the pipeline does so: the texts of calls that arrive while a
 * batch is computed make up the next ones. A call that finds nothing running starts at once, so no call waits for a
 * timer. A call that fills a batch by itself, or mixes adapters, is computed as it is.
 */
export function sharing<Answer>(
  { shareBatches, batchSize }: Pick<PipelineParts, 'shareBatches' | 'batchSize'>,
  compute: Compute<Answer>,
): Compute<Answer> {
  if (!shareBatches) return compute;
  let waiting: Waiting<Answer>[] = []; // the oldest first
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
        new Promise<Answer>((resolve, reject) => {
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
function nextBatch<Answer>(waiting: readonly Waiting<Answer>[], batchSize: number): readonly Waiting<Answer>[] {
  const [oldest] = waiting as readonly [Waiting<Answer>, ...Waiting<Answer>[]];
  const distance = ({ text }: Waiting<Answer>): number => Math.abs(text.ids.length - oldest.text.ids.length);
  return waiting
    .filter(({ adapter }) => adapter === oldest.adapter)
    .sort((a, b) => distance(a) - distance(b))
    .slice(0, batchSize);
}

/** Gives each text its answer. If the batch fails, each is computed alone, so that an error stays with its call. */
async function settle<Answer>(batch: readonly Waiting<Answer>[], compute: Compute<Answer>): Promise<void> {
  const [first] = batch as readonly [Waiting<Answer>, ...Waiting<Answer>[]];
  try {
    const texts = batch.map(({ text }) => text);
    const answers = await compute(texts, first.adapter);
    batch.forEach(({ resolve }, index) => resolve(answers[index] as Answer));
  } catch (error) {
    if (batch.length === 1) first.reject(error);
    else for (const each of batch) await settle([each], compute);
  }
}
