// Command volume-provisioner makes a folder for each PersistentVolumeClaim of the default StorageClass, as kind's
// local-path-provisioner does.
//
// Place: a component of the control plane (`volume-provisioner --kubeconfig FILE --folder DIR`); the loop is the one of
// sig-storage-lib-external-provisioner. Limits: sizes are not enforced. All nodes are on one machine, so a volume is
// reachable from each of them, and ReadWriteMany costs nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// provisionerName is what the StorageClass in bootstrap.yaml names.
const provisionerName = "gpulab/local"

type folders struct{ root string }

func main() {
	fmt.Fprintln(os.Stderr, "volume-provisioner:", run(os.Args[1:]))
	os.Exit(1)
}

func run(args []string) error {
	flags := flag.NewFlagSet("volume-provisioner", flag.ContinueOnError)
	file := flags.String("kubeconfig", "", "kubeconfig of the provisioner")
	root := flags.String("folder", "", "folder in which each volume gets a folder")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *file == "" || *root == "" {
		return errors.New("--kubeconfig and --folder must be given")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *file)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx := context.Background()
	controller.NewProvisionController(ctx, client, provisionerName, folders{*root},
		controller.LeaderElection(false), controller.MetricsPort(0)).Run(ctx)
	return nil
}

// Provision makes the folder of a claim.
func (f folders) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*core.PersistentVolume, controller.ProvisioningState, error) {
	if mode := options.PVC.Spec.VolumeMode; mode != nil && *mode == core.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, errors.New(
			"the claim asks for volumeMode Block; the embedded cluster has volumes with a file system only")
	}
	folder := filepath.Join(f.root, options.PVName)
	if err := os.Mkdir(folder, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, controller.ProvisioningFinished, err
	}
	if err := os.Chmod(folder, 0o777); err != nil { // as local-path-provisioner does: containers run as any user
		return nil, controller.ProvisioningFinished, err
	}
	everywhere := core.NodeSelectorRequirement{
		Key: core.LabelOSStable, Operator: core.NodeSelectorOpIn, Values: []string{"linux"}}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: options.PVName},
		Spec: core.PersistentVolumeSpec{
			AccessModes:                   options.PVC.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: options.PVC.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: folder}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{
				{MatchExpressions: []core.NodeSelectorRequirement{everywhere}}}}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the folder of a volume that Provision made.
func (f folders) Delete(_ context.Context, volume *core.PersistentVolume) error {
	folder := filepath.Join(f.root, volume.Name)
	if volume.Spec.Local == nil || volume.Spec.Local.Path != folder {
		return &controller.IgnoredError{Reason: "its folder is not one of this provisioner"}
	}
	return os.RemoveAll(folder)
}
