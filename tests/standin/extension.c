/* Registers its operators with the stand-in's torch as it is loaded, as static constructors do in vLLM's. */

extern int PyRun_SimpleString(const char *text);

#ifndef OPERATOR
#define OPERATOR "init_cpu_memory_env"
#endif

__attribute__((constructor)) static void define(void) {
  PyRun_SimpleString("import torch; torch.ops.define('" OPERATOR "')");
}
