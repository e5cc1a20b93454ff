/** An entry of a Pipcook pipeline's `artifact` list. */
export interface DeployOptions {
  /** Pipcook's key: the package and its version. */
  processor?: string;
  /** The folder of the bundle. With `recipe` it may be left out. */
  target?: string;
  /** What to write: "tfjs", "onnx", "saved_model", "tflite". All of them if left out. */
  formats?: string | string[];
  /** A deploy.toml; its model source is replaced by the trained model. */
  recipe?: string;
  name?: string;
  version?: string;
  /** A folder of samples to verify with: one folder a label. */
  samples?: string;
  /** Options of converters: {"onnx.opset": 18}. */
  set?: Record<string, string | number | boolean>;
  /** The program, or the program and its first arguments; else $PIPCOOK_DEPLOY, else "pipcook-deploy". */
  command?: string | string[];
}

export function initialize(options: DeployOptions): Promise<void>;
export function build(modelDir: string, options: DeployOptions): Promise<void>;
