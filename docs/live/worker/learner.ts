import {
  predict,
  withAdapter,
  type EvaluationData,
  type Executor,
  type InputBatch,
  type PeftModel,
} from '@peftjs/core';
import type { HostTensors } from '@peftjs/core/method';
import type { Scores } from '../messages.js';

/** A model that learns: compiled once, and asked again and again while its adapter's values change. */
export interface Learner {
  /** The model with the newest values. */
  readonly peft: PeftModel;
  /** Takes over newer values. */
  learn(values: HostTensors): void;
  scores(data: EvaluationData): Promise<Scores>;
  /** The probability of each class for the one row of a batch. */
  probabilities(question: InputBatch): Promise<number[]>;
}

export function openLearner(start: PeftModel, executor: Executor): Learner {
  let peft = start;
  const outputs = (batches: readonly InputBatch[]): Promise<Float32Array[]> => predict(peft, batches, { executor });
  return {
    get peft() {
      return peft;
    },
    learn(values) {
      peft = withAdapter(peft, { values });
    },
    async scores(data) {
      const { accuracy = 0, macroF1 = 0 } = data.score(await outputs(data.batches));
      return { accuracy, macroF1 };
    },
    async probabilities(question) {
      const [logits = new Float32Array()] = await outputs([question]);
      return softmax(logits);
    },
  };
}

function softmax(logits: Float32Array): number[] {
  const most = Math.max(...logits);
  const weights = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}
