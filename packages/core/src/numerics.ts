/**
 * The version of the numbers: every change that alters a result increments it, because package versions alone do not tell. Results and
 * checkpoints carry it, and those with another one are neither resumed nor pooled; files from before it existed count as 0.
 */
export const NUMERICS = 6;
