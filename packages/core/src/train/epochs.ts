import type { Batch, TrainingData } from '../contracts/model.js';

/** The same rows in epochs of another kind; what is held out of them leaves the rest in such epochs, too. */
function inEpochs(data: TrainingData, epochsOf: (data: TrainingData) => Partial<TrainingData>): TrainingData {
  const holdOut = data.holdOut?.bind(data);
  return {
    ...data,
    ...epochsOf(data),
    ...(holdOut && {
      holdOut(rows) {
        const { rest, heldOut } = holdOut(rows);
        return { rest: inEpochs(rest, epochsOf), heldOut };
      },
    }),
  };
}

/** The epochs from the first one given on. */
export function fromEpoch(all: TrainingData, first: number): TrainingData {
  return inEpochs(all, (data) => ({ epoch: (index) => data.epoch(first + index) }));
}

/** Batches of the endless row of all epochs, `count` from the first one given on, as one epoch. */
export function batchesFrom(all: TrainingData, first: number, count: number): TrainingData {
  return inEpochs(all, (data) => ({
    batchesPerEpoch: count,
    epoch() {
      const [batches, length]: [Batch[], number] = [[], data.batchesPerEpoch];
      for (let index = Math.floor(first / length); batches.length < count; index++) {
        const skipped = Math.max(0, first - index * length);
        batches.push(...data.epoch(index).slice(skipped, skipped + count - batches.length));
      }
      return batches;
    },
  }));
}
