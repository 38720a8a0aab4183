/** The number of bins of {@link expectedCalibrationError}, as in the paper. */
const BINS = 15;

/**
 * The expected calibration error (Guo et al., 2017, equation 3): by how much the probability of the predicted class
 * differs from the share of rows in which it is right, 0 to 1, less is better. Rows are put into 15 bins of equal width
 * by that probability, the softmax of their logits; the result is the mean over rows of the difference in their bin. 0
 * without rows, NaN if a logit is not a number.
 * @param logits the outputs of each row, `[rows][classes]`
 * @param actual the class number of each row
 */
export function expectedCalibrationError(logits: readonly Float32Array[], actual: readonly number[]): number {
  const gaps = new Map<number, number>(); // by bin: the number of right rows minus the sum of their probabilities
  logits.forEach((row, index) => {
    const largest = Math.max(...row);
    const confidence = 1 / row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
    const bin = Math.ceil(confidence * BINS);
    const gap = Number(row.indexOf(largest) === actual[index]) - confidence;
    gaps.set(bin, (gaps.get(bin) ?? 0) + gap);
  });
  const total = [...gaps.values()].reduce((sum, gap) => sum + Math.abs(gap), 0);
  return total / Math.max(1, logits.length);
}
