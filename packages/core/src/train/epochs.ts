import type { Batch, TrainingData } from '../contracts/model.js';

/** Returns the same data with other epochs. What remains after `holdOut` gets such epochs, too. */
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

/** Returns the data starting at epoch `first`. */
export function fromEpoch(all: TrainingData, first: number): TrainingData {
  return inEpochs(all, (data) => ({ epoch: (index) => data.epoch(first + index) }));
}

/** Returns data with one epoch of `count` batches, starting at batch `first` of the sequence of all epochs. */
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
